"""LoRA and the side adapter leave as folded parts that answer as the model does."""

import pytest
import torch
from torch import nn

from vlseg.export.bundle import Options, export_model
from vlseg.export.prepare import prepare
from vlseg.train.models.grafts import trained_parameters
from vlseg.train.models.methods import build_model

METHODS = [
    ("clipseg/lora", {"targets": "q,k,v,out,mlp"}),
    ("san/adapter", {}),
    ("san/adapter", {"fidelity": "released"}),
]


def trained(name, options):
    model = build_model(name, "nano", **options)
    for parameter in trained_parameters(model).values():
        nn.init.normal_(parameter, std=0.2)
    return model


@pytest.mark.parametrize(("name", "options"), METHODS)
def test_folded_parts_answer_the_same(name, options):
    model = trained(name, options).double()
    ids, mask = (torch.from_numpy(a) for a in model.tokenizer(["one small lesion", "polyp"]))
    pixels = torch.randn(2, 3, 32, 32).double()
    parts = prepare(model).parts
    image = parts["image"](pixels)
    # the text's causal mask is of float32's smallest number; what it hides is 0 in both
    (logits,) = parts["decoder"](*image, *parts["text"](ids, mask))
    torch.testing.assert_close(logits, model(pixels, ids, mask).detach(), rtol=1e-12, atol=1e-12)
    assert prepare(model).done


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), METHODS[:2])
def test_bundle_agrees_with_the_model(name, options, tmp_path):
    info = {"method": name, "size": "nano", "weights": None, "options": options}
    report = export_model(trained(name, options), info, tmp_path / "bundle", Options())
    assert report["parity"]["passed"]
