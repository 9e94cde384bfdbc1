"""SAM for an engine: exact folds, a bundle whose image part hears the sentence, static batch 1 and dynamic batch."""

import json

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from vlseg.deploy.engines.ort import OnnxRuntime
from vlseg.deploy.errors import UserError
from vlseg.deploy.manifest import Manifest
from vlseg.deploy.segmenter import Segmenter
from vlseg.export.bundle import Options, export_model
from vlseg.export.graph import Source, to_onnx
from vlseg.export.prepare import prepare
from vlseg.export.sam import FoldedSamAttention
from vlseg.train.models.grafts import trained_parameters
from vlseg.train.models.methods import build_model
from vlseg.train.models.parts import parts_of
from vlseg.train.models.runs import save_run

LONG = "Bilateral pulmonary infection, two infected areas, upper left lung and upper right lung"
INFO = {"method": "sam/lga", "size": "nano", "weights": "random"}


def stirred(method="sam/lga", scale=0.3, **options):
    """A model whose gates are open, and whose relative positions count."""
    model, draw = build_model(method, "nano", **options), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad or "rel_pos" in name or "attn.qkv.bias" in name:
                parameter.add_(torch.randn(parameter.shape, generator=draw) * scale)
    return model


def given(model, *texts):
    ids, mask = (torch.from_numpy(array) for array in model.tokenizer(list(texts)))
    pixels = torch.randn(len(texts), 3, 64, 64, generator=torch.Generator().manual_seed(1))
    return {"pixel_values": pixels.to(model.positions.dtype), "input_ids": ids, "attention_mask": mask}


@torch.no_grad()
def walked(parts, made, *names):
    for name in names:
        part = parts[name]
        made |= zip(part.outputs, part(*(made[key] for key in part.inputs)), strict=True)
    return made


@pytest.mark.parametrize("index", [0, 1])  # windows of 3 x 3 in a grid of 4 x 4, which are padded, and the whole grid
@torch.no_grad()
def test_folded_attention_is_exact(index):
    layer = stirred().double().vision.layers[index]
    x = torch.randn(2, 4, 4, 32).double()
    expected = layer(x)
    layer.attn = FoldedSamAttention(layer.attn, layer.window_size or 4)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"text_tokens": "all"}, {"n_ffm": 0}])
def test_folded_parts_are_the_model(options):
    model = stirred(**options).double()
    prepared = prepare(model)
    made, folded = (walked(parts, given(model, LONG, "one"), "text", "image", "decoder") for parts in
                    (parts_of(model), prepared.parts))  # fmt: skip
    # the library's softmax is in float32
    for name, atol in (("image_embedding", 1e-5), ("logits", 1e-5)):
        torch.testing.assert_close(folded[name], made[name], rtol=0, atol=atol)
    assert prepared.done[-1] == "the IoU head and three of four mask networks leave"
    dead = ("iou_prediction", "mlps.1", "mlps.2", "mlps.3")
    assert not any(part in name for name, _ in prepared.model.named_parameters() for part in dead)


@pytest.mark.parametrize(
    ("options", "rows", "phrase"),
    [
        ({}, 3, "the constant text's queries of the first module"),  # one token, its query, the averaging one
        ({"text_tokens": "all", "text_limit": 3, "inner": 8}, 7, "the constant text's queries of the first module"),
        ({"n_ffm": 1}, 2, "what the image hears of the constant text in the first module"),
        ({"text_cross": False}, 2, "what the image hears of the constant text in the first module"),
        ({"text_tokens": "all"}, 32, None),  # with as many tokens the image is pooled in the plain form
        ({"n_ffm": 1, "text_tokens": "all"}, 32, None),
        ({"n_ffm": 0}, 1, None),
    ],
)
def test_of_a_constant_report_the_first_module_is_folded_exactly(options, rows, phrase):
    model = stirred(**options).double()
    plain, known = prepare(model), prepare(model, constant_text=True)
    made, folded = (walked(one.parts, given(model, LONG, "one"), "text", "image") for one in (plain, known))
    # the softmax of a layer is the library's, in float32: both sides have the same
    torch.testing.assert_close(folded["image_embedding"], made["image_embedding"], rtol=0, atol=1e-11)
    text = folded[known.flow["text"]["outputs"][0]]
    assert text.shape[1] == rows and (phrase is None or known.done[0] == phrase)
    assert phrase is not None or known.done == plain.done


def test_the_flow_of_a_model_whose_image_hears_the_sentence():
    flow = prepare(stirred()).flow
    assert flow["image"]["inputs"] == ["pixel_values", "text_tokens"]
    assert flow["decoder"] == {"inputs": ["image_embedding"], "outputs": ["logits"]}
    flow = prepare(stirred(text_tokens="all")).flow
    assert flow["image"]["inputs"] == ["pixel_values", "text_tokens", "text_mask"]
    for model in (stirred(n_ffm=0), stirred(text="none")):
        assert prepare(model).flow["image"]["inputs"] == ["pixel_values"]


@pytest.mark.slow
def test_static_batch_1_exports_too(tmp_path):
    """The library's fused attention cannot be exported so."""
    model = stirred()
    part = prepare(model).parts["image"]
    made = walked(parts_of(model), given(model, LONG), "text", "image")
    inputs = {name: made[name] for name in part.inputs}
    graph = to_onnx(Source(part, inputs, {name: {} for name in (*part.inputs, *part.outputs)}, part.outputs))
    onnx.save(graph, tmp_path / "image.onnx")
    found = OnnxRuntime(tmp_path / "image.onnx").run({name: one.numpy() for name, one in inputs.items()})
    np.testing.assert_allclose(found["image_embedding"], made["image_embedding"].numpy(), rtol=1e-3, atol=1e-4)
    assert [dim.dim_value for dim in graph.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 64, 64]


@pytest.fixture(scope="module")
def model():
    return stirred()


@pytest.fixture(scope="module")
def bundle(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sam") / "bundle"
    assert export_model(model, INFO, folder)["parity"]["passed"]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "length"), [(1, 4), (3, 30), (2, 77)])
def test_the_parts_in_any_batch_and_length(bundle, model, batch, length):
    texts = [LONG, "one", "upper left lung"][:batch]
    ids, mask = (torch.from_numpy(array) for array in model.tokenizer(texts, length))
    made = given(model, *texts) | {"input_ids": ids, "attention_mask": mask}
    expected = walked(parts_of(model), dict(made), "text", "image", "decoder")
    run = {name: one.numpy() for name, one in made.items()}
    for name in ("text", "image", "decoder"):
        part = parts_of(model)[name]
        run |= OnnxRuntime(bundle / f"{name}.onnx").run({key: run[key] for key in part.inputs})
    np.testing.assert_allclose(run["logits"], expected["logits"].numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_report_is_asked_through_the_door(bundle, door, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(tmp_path / "x.png")
    said = door("segment", bundle, tmp_path / "x.png", "--prompt", LONG, "--out", tmp_path / "mask.png")
    assert said.code == 0, said.err
    with Image.open(tmp_path / "mask.png") as mask:
        assert mask.size == (70, 50)
    said = door("segment", bundle, tmp_path / "x.png", "--prompt", " ", "--out", tmp_path / "none.png")
    assert said.code == 2 and not (tmp_path / "none.png").exists()


@pytest.mark.slow
def test_another_sentence_is_another_embedding_of_the_image(bundle):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    with Segmenter.open(bundle) as segmenter:
        first, second = segmenter.logits(image, LONG), segmenter.logits(image, "one")
        assert np.array_equal(segmenter.logits(image, LONG), first) and not np.allclose(first, second, atol=1e-3)
    manifest = Manifest.load(bundle)
    assert manifest.needs_words and not manifest.text_depends_on_image


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"text_tokens": "all"}, {"n_ffm": 1, "text": "optional"}])
def test_fixed_reports_leave_no_text_encoder(options, tmp_path):
    model = stirred(scale=0.05, **options)
    report = export_model(model, INFO, tmp_path / "bundle", Options("fp16", fixed_prompts=(LONG, "one")))
    assert report["parity"]["passed"] and not (tmp_path / "bundle" / "text.onnx").exists()
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    with Segmenter.open(tmp_path / "bundle") as segmenter:
        assert segmenter.segment_many(image, [LONG, "one"]).shape == (2, 64, 64)
        with pytest.raises(UserError, match="does not know the prompt"):
            segmenter.segment(image, "two")


@pytest.mark.slow
def test_a_run_is_exported_through_the_door(model, door, tmp_path):
    (tmp_path / "run").mkdir()
    save_run(tmp_path / "run", model, INFO | {"weights": None, "options": {}})
    said = door("export", tmp_path / "run", tmp_path / "bundle", "--json")
    assert said.code == 0, said.err
    report = json.loads(said.out)
    assert report["parity"]["passed"] and any("relative positions" in str(fold) for fold in report["folds"])
    assert sum(p.numel() for p in trained_parameters(model).values()) > 0
