import json

import numpy as np
import onnxruntime
import pytest
import torch

from vlseg.demo.attention import attention
from vlseg.deploy.errors import UserError
from vlseg.deploy.manifest import Manifest
from vlseg.deploy.segmenter import Segmenter
from vlseg.export.bundle import Options, export_model
from vlseg.export.text_attention import FILE, OUTPUT, graph
from vlseg.train.models.methods import build_model
from vlseg.train.models.runs import save_run
from vlseg.train.models.sam.fusion import Extractor

TEXTS = ("two infected areas in the upper left lung", "one")


def stirred(scale=0.3, **options):
    """A model whose text halves have an opinion."""
    model, draw = build_model("sam/lga", "nano", **options), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.fusions.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw) * scale)
    return model


def seen_by(model, pixels):
    """The same in float64 from the model as it was trained, by equation 2 as it is written."""
    found = []

    def note(extractor, given):
        text, vision = given
        one, heads = extractor.attention, extractor.heads
        q = one.query(extractor.text_norm(text)).unflatten(-1, (heads, -1)).transpose(1, 2)
        k = one.key(extractor.vision_norm(vision)).unflatten(-1, (heads, -1)).transpose(1, 2)
        found.append(torch.softmax(q @ k.transpose(2, 3) / q.shape[-1] ** 0.5, -1).mean(1))

    model = model.double()
    for module in model.modules():
        if isinstance(module, Extractor):
            module.register_forward_pre_hook(note)
    ids, mask = (torch.from_numpy(array) for array in model.tokenizer(list(TEXTS)))
    with torch.no_grad():
        text = model.text_embedding(model.text_states(ids, mask))
        model.image_embedding(model.image_states(pixels.double()), text)
    parts = text if isinstance(text, tuple) else (text,)
    return torch.stack(found, 1).numpy(), [part.float().numpy() for part in parts]


@pytest.mark.parametrize("options", [{}, {"text_tokens": "all", "text_limit": 5, "heads": 2, "inner": 8}])
def test_it_is_equation_2_in_float64(options):
    model = stirred(**options)
    pixels = torch.randn(2, 3, model.image_size, model.image_size, generator=torch.Generator().manual_seed(1))
    made, shape = graph(model)
    true, texts = seen_by(model, pixels)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    gaze = np.asarray(session.run([OUTPUT], dict(zip(names, [pixels.numpy(), *texts], strict=True)))[0])
    assert gaze.shape == shape == true.shape and shape[1] == 3
    assert np.ptp(true, axis=-1).max() > 1e-3
    np.testing.assert_allclose(gaze, true, rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(gaze.sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize(("method", "options"), [("sam/lga", {"text_cross": False}), ("sam/decoder", {})])
def test_where_no_words_ask_there_is_nothing_to_tell(method, options):
    with pytest.raises(UserError, match="no words of this model ask the image"):
        graph(build_model(method, "nano", **options))


@pytest.mark.slow
def test_a_page_gets_it_from_a_bundle(tmp_path, door):
    model = stirred(0.05, text_tokens="all", text_limit=6)
    info = {
        "method": "sam/lga",
        "size": "nano",
        "weights": "random",
        "options": {"text_tokens": "all", "text_limit": 6},
    }
    (tmp_path / "run").mkdir()
    save_run(tmp_path / "run", model, info)
    assert export_model(model, info, tmp_path / "bundle", Options())["parity"]["passed"]
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    with Segmenter.open(tmp_path / "bundle", threads=1) as segmenter:
        assert attention(tmp_path / "bundle", segmenter, picture, TEXTS[0]) is None
    said = door("explain", tmp_path / "run", tmp_path / "bundle", "--json")
    assert said.code == 0, said.err
    told = json.loads(said.out)
    assert (told["tells"], told["modules"]) == (OUTPUT, 3) and FILE in Manifest.load(tmp_path / "bundle").files
    side = round(told["tokens"] ** 0.5)
    with Segmenter.open(tmp_path / "bundle", threads=1) as segmenter:
        long, short = (attention(tmp_path / "bundle", segmenter, picture, text) for text in TEXTS)
    assert long.shape == (3, side, side) and np.abs(long - short).max() > 1e-4
    np.testing.assert_allclose(long.mean((1, 2)), 1, rtol=1e-5)
