"""Every fold is exact: float64, 1e-12."""

import copy

import pytest
import torch
from torch import nn

from vlseg.train.models import linear_folds
from vlseg.train.models.fold import down_sites, fold
from vlseg.train.models.methods import build_model

EXACT = {"rtol": 0, "atol": 1e-12}


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_fold_down():
    linear, down, a = nn.Linear(7, 5), nn.Linear(5, 3), torch.randn(11, 7)
    wide = linear_folds.fold_down(linear, down)(a)
    torch.testing.assert_close(wide, torch.cat([linear(a), down(linear(a))], -1), **EXACT)


def test_fold_gate():
    linear, gate, a = nn.Linear(7, 5), torch.randn(5), torch.randn(11, 7)
    torch.testing.assert_close(linear_folds.fold_gate(linear, gate)(a), gate * linear(a), **EXACT)


def test_fold_layernorm():
    norm, readers, a = nn.LayerNorm(7), [nn.Linear(7, 5), nn.Linear(7, 2)], torch.randn(11, 7) * 3
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    bare, folded = linear_folds.fold_layernorm(norm, readers)
    for before, after in zip(readers, folded, strict=True):
        torch.testing.assert_close(after(bare(a)), before(norm(a)), **EXACT)


@pytest.mark.parametrize("outer", ["relu", "identity"])
@pytest.mark.parametrize("image_size", [32, 48])
def test_a_folded_model_answers_the_same(outer, image_size):
    model = build_model("clipseg/dense-vlc", "nano", image_size=image_size, outer=outer).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    folded = copy.deepcopy(model)
    sites = down_sites(folded)
    done = fold(folded, sites)
    assert len(sites) == 4 and len(done) == 6
    ids, mask = (torch.from_numpy(a) for a in model.tokenizer(["one small lesion", "polyp"]))
    pixels = torch.randn(2, 3, image_size, image_size)
    with torch.no_grad():
        before, after = model(pixels, ids, mask), folded(pixels, ids, mask)
    torch.testing.assert_close(after, before, rtol=1e-12, atol=1e-12)


def test_no_site_behind_the_mlp():
    assert all("self_attn" in site for site in down_sites(build_model("clipseg/dense-vl", "nano")))


def test_a_wrong_fold_is_seen():
    """Negative control: the tolerance catches a forgotten bias."""
    linear, down, a = nn.Linear(7, 5), nn.Linear(5, 3), torch.randn(11, 7)
    wide = linear_folds.fold_down(linear, down)
    with torch.no_grad():
        wide.bias[5:] = down.bias
    assert not torch.allclose(wide(a)[:, 5:], down(linear(a)), **EXACT)
