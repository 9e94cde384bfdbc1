"""What is folded for an engine is exact: float64, 1e-12; and it is really gone."""

import pytest
import torch
from torch import nn

from vlseg.export.attention import FoldedAttention, FoldedMlp
from vlseg.export.prepare import prepare
from vlseg.export.tail import TailedImagePart
from vlseg.train.models.fold import down_sites
from vlseg.train.models.methods import METHODS, build_model
from vlseg.train.models.parts import parts_of


def wild(name, **options):
    """Return a model in float64 with biases and scales far from their tame starts."""
    model = build_model(name, "nano", seed=1, **options).double()
    torch.manual_seed(3)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def inputs(model):
    ids, mask = (torch.from_numpy(a) for a in model.tokenizer(["one small lesion on the left", "polyp", ""]))
    return torch.randn(3, 3, model.image_size, model.image_size, dtype=torch.float64), ids, mask


@pytest.mark.parametrize("name", sorted(name for name in METHODS if name.startswith("clipseg/")))
@torch.no_grad()
def test_the_folded_parts_answer_as_the_model(name):
    model = wild(name)
    pixels, ids, mask = inputs(model)
    logits = model(pixels, ids, mask)  # before the copy, so that the library has put its hooks on
    whole, folded = parts_of(model), prepare(model, down_sites(model)).parts
    given = {"pixel_values": pixels, "input_ids": ids, "attention_mask": mask}
    for part in ("image", "text"):
        rows = tuple(given[name] for name in whole[part].inputs)
        expected = whole[part](*rows)
        for found, one in zip(folded[part](*rows), expected, strict=True):
            torch.testing.assert_close(found, one, rtol=1e-12, atol=1e-12)
        given |= zip(whole[part].outputs, expected, strict=True)
    (found,) = folded["decoder"](*(given[name] for name in whole["decoder"].inputs))
    scale = logits.abs().max()
    torch.testing.assert_close(found / scale, logits / scale, rtol=0, atol=1e-12)


def test_the_model_itself_is_left_alone():
    model = wild("clipseg/dense-vlc")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prepare(model, down_sites(model))
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_what_cancels_is_gone():
    prepared = prepare(wild("clipseg/dense-vl"))
    attentions = [one for one in prepared.model.modules() if isinstance(one, FoldedAttention)]  # the tail has its own
    assert len(attentions) == 3 + 4 + 3 - 1 and any("of 10 layers" in phrase for phrase in prepared.done)
    assert all(one.key.bias is None and one.value.bias is None and one.query.bias is not None for one in attentions)


def tailed(name, **options):
    return isinstance(prepare(wild(name, **options)).parts["image"], TailedImagePart)


def test_a_layer_with_an_adapter_on_its_tap_keeps_its_product():
    assert tailed("clipseg/frozen")
    assert tailed("clipseg/dense-vl")
    assert not tailed("clipseg/shallow-vlc")
    assert not tailed("clipseg/dense-vl", last_layer=2)
    assert not tailed("clipseg/cocoop")


@torch.no_grad()
def test_a_forgotten_value_bias_is_seen():
    """Negative control: the tolerance would catch the fold that moves no bias."""
    model = wild("clipseg/frozen")
    pixels, _, _ = inputs(model)
    prepared = prepare(model)
    prepared.parts["image"].tail.attention.out.bias += 1e-9
    assert not torch.allclose(
        *prepared.parts["image"](pixels), *parts_of(model)["image"](pixels), rtol=1e-12, atol=1e-12
    )


@torch.no_grad()
def test_quick_gelu_as_silu():
    mlp = nn.Module()
    mlp.fc1, mlp.fc2 = nn.Linear(5, 7).double(), nn.Linear(7, 5).double()
    x = torch.randn(11, 5, dtype=torch.float64) * 4
    a = mlp.fc1(x)
    torch.testing.assert_close(FoldedMlp(mlp)(x), mlp.fc2(a * torch.sigmoid(1.702 * a)), rtol=1e-13, atol=1e-13)
