"""LoRA on SAM: counts, who learns, and that it leaves no trace but in the weights when it is merged."""

import pytest
import torch

from vlseg.deploy.errors import UserError
from vlseg.export.prepare import prepare
from vlseg.train.models import lora as layers_of
from vlseg.train.models.grafts import trained_parameters
from vlseg.train.models.methods import build_model, cacheable, count
from vlseg.train.models.parts import parts_of


def given(model):
    ids, mask = (torch.from_numpy(array) for array in model.tokenizer(["a polyp", "one"]))
    return torch.randn(2, 3, 64, 64, dtype=model.positions.dtype), ids, mask


def test_counts():
    # each layer: rank x (768 in + 2304 out)
    assert count("sam/lora", "base")["trainable"] == 12 * 4 * (768 + 3 * 768) + 4_058_340
    with torch.device("meta"):
        wide = build_model("sam/lora", "base", weights="random", targets="qkv,out,mlp", rank=2, decoder=False)
    each = 2 * (768 + 2304) + 2 * (768 + 768) + 2 * 2 * (768 + 3072)
    assert sum(p.numel() for p in trained_parameters(wide).values()) == 12 * each


def test_it_starts_as_the_frozen_model_and_learns():
    model, frozen = build_model("sam/lora", "nano", checkpointing=True), build_model("sam/frozen", "nano")
    inputs = given(model)
    with torch.no_grad():
        torch.testing.assert_close(model(*inputs), frozen(*inputs), rtol=1e-5, atol=1e-6)
    assert cacheable(model) == {"image": False, "text": True}
    model(*inputs).square().mean().backward()
    learns = {name for name, p in trained_parameters(model).items() if p.grad is not None and p.grad.abs().sum() > 0}
    assert sum("lora_B" in name for name in learns) == 4


@torch.no_grad()
def test_merged_into_the_weights_at_export():
    model = build_model("sam/lora", "nano", targets="qkv,out,mlp").double()
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.normal_(std=0.2)
    pixels, *_ = given(model)
    prepared = prepare(model)
    assert "LoRA into 16 weights" in prepared.done and not list(layers_of.layers(prepared.model))
    (expected,), (found,) = parts_of(model)["image"](pixels), prepared.parts["image"](pixels)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"targets": "q,v"}, "expected such as qkv,mlp"),
        ({"rank": 0}, "expected a whole number from 1 on"),
        ({"alpha": -1.0}, "expected a number above 0"),
        ({"dropout": 1.0}, "expected 0 to below 1"),
    ],
)
def test_bad_input(options, says):
    with pytest.raises(UserError, match=says):
        build_model("sam/lora", "nano", **options)
