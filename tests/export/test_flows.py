"""Models whose parts are not the usual three: text that depends on the image, several tensors between parts."""

import numpy as np
import onnx
import pytest
import torch

from vlseg.deploy.engines.ort import OnnxRuntime
from vlseg.deploy.errors import UserError
from vlseg.deploy.manifest import Manifest
from vlseg.deploy.segmenter import Segmenter
from vlseg.export import bundle as module
from vlseg.export.bundle import Options, export_model
from vlseg.export.prepare import prepare
from vlseg.train.models.methods import build_model
from vlseg.train.models.parts import parts_of

INFO = {"method": "clipseg/cocoop", "size": "nano", "weights": "random"}
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def model():
    return build_model("clipseg/cocoop", "nano", depth=2)


@pytest.fixture(scope="module")
def bundle(model, exported, tmp_path_factory):
    """A bundle with text that depends on the image; its decoder is the frozen one, which is not exported again."""
    folder = tmp_path_factory.mktemp("flows") / "bundle"
    decoder, to_onnx = onnx.load(exported[1] / "decoder.onnx"), module.to_onnx
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            module,
            "to_onnx",
            lambda source, opset: decoder if source.outputs == ("logits",) else to_onnx(source, opset),
        )
        report = export_model(model, INFO, folder, Options(folds="none"))
    assert report["parity"]["passed"] and report["parity"]["deviation"] < 1e-3
    return folder


def test_the_manifest_says_that_text_depends_on_the_image(bundle):
    manifest = Manifest.load(bundle)
    assert manifest.text_depends_on_image
    assert manifest.flow["image"]["outputs"] == ["image_embedding", "image_context"]
    assert manifest.flow["text"]["inputs"] == ["input_ids", "attention_mask", "image_context"]
    assert manifest.axes["text"] == {
        "input_ids": ["batch", "length"],
        "attention_mask": ["batch", "length"],
        "image_context": ["batch", 32],
        "text_embedding": ["batch", 2, 16],
    }


@pytest.mark.parametrize("shape", [(1, 2), (3, 33), (2, 77)])
def test_the_parts_in_any_batch_and_length(bundle, model, shape):
    batch, length = shape
    draw = np.random.default_rng(batch)
    made = {"pixel_values": draw.standard_normal((batch, 3, 32, 32), dtype=np.float32)}
    texts, names = ["lesion " * 40, "polyp", ""][:batch], ("input_ids", "attention_mask")
    # an engine of one length pads beyond what the prompts leave of the context; the model never does
    expected = made | dict(zip(names, model.tokenizer(texts, min(length, model.tokenizer.context)), strict=True))
    made |= zip(names, model.tokenizer(texts, length), strict=True)
    for name, part in parts_of(model).items():
        made |= OnnxRuntime(bundle / f"{name}.onnx").run({key: made[key] for key in part.inputs})
        with torch.no_grad():
            found = part(*(torch.from_numpy(expected[key]) for key in part.inputs))
        expected |= {key: one.numpy() for key, one in zip(part.outputs, found, strict=True)}
    for key in ("image_context", "text_embedding", "logits"):
        np.testing.assert_allclose(made[key], expected[key], **CLOSE)


def test_the_same_sentence_is_answered_for_each_image(bundle):
    images = np.random.default_rng(0).integers(0, 256, (2, 30, 40, 3), dtype=np.uint8)
    with Segmenter.open(bundle, threads=1) as segmenter:
        first, second = (segmenter.logits(image, "a polyp") for image in images)
        assert np.array_equal(segmenter.logits(images[0], "a polyp"), first)
    assert not np.allclose(first, second, atol=1e-4)


def test_its_prompts_cannot_be_made_constants(model, tmp_path):
    with pytest.raises(UserError, match="depends on the image, so no prompt can be made a constant"):
        export_model(model, INFO, tmp_path / "out", Options(fixed_prompts=("a polyp",)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["cris/coop", "san/adapter"])
def test_a_backbone_without_folds_of_its_own_keeps_its_parts(name):
    model = build_model(name, "nano")
    prepared = prepare(model, [])
    assert prepared.flow["decoder"]["inputs"] == [*model.image_outputs, *model.text_outputs]
    assert prepared.parts.keys() == {"image", "text", "decoder"} and prepared.model is not model
