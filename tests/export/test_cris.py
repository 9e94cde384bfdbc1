"""CRIS leaves as three parts that answer as the model does, its maps, words, gate and kernel passing between them."""

import pytest
import torch
from torch import nn

from vlseg.export.bundle import Options, export_model
from vlseg.export.prepare import prepare
from vlseg.train.models.grafts import trained_parameters
from vlseg.train.models.methods import build_model

METHODS = [
    ("cris/full", {"fidelity": "released"}),
    ("cris/coop", {"upsampler": True}),
    ("cris/coop", {"fidelity": "released"}),
    ("cris/cocoop", {}),
]


def trained(name, options):
    model = build_model(name, "nano", **options)
    for parameter in trained_parameters(model).values():
        nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize(("name", "options"), METHODS)
def test_folded_parts_answer_the_same(name, options):
    model = trained(name, options).double()
    ids, mask = (torch.from_numpy(a) for a in model.tokenizer(["one small lesion", "polyp"]))
    pixels = torch.randn(2, 3, 64, 64).double()
    parts = prepare(model).parts
    *maps, last = parts["image"](pixels)
    context = (last,) if model.text_depends_on_image else ()
    maps = maps if context else [*maps, last]
    (logits,) = parts["decoder"](*maps, *parts["text"](ids, mask, *context))
    torch.testing.assert_close(logits, model(pixels, ids, mask).detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), [METHODS[1], METHODS[3]])
def test_bundle_agrees_with_the_model(name, options, tmp_path):
    info = {"method": name, "size": "nano", "weights": None, "options": options}
    report = export_model(trained(name, options), info, tmp_path / "bundle", Options())
    assert report["parity"]["passed"]


@pytest.mark.slow
def test_fixed_prompts_leave_the_text_tower_behind(tmp_path):
    info = {"method": "cris/coop", "size": "nano", "weights": None, "options": {}}
    options = Options(fixed_prompts=("polyp", "small lesion"))
    report = export_model(trained("cris/coop", {}), info, tmp_path / "bundle", options)
    assert report["parity"]["passed"] and not (tmp_path / "bundle" / "text.onnx").exists()
