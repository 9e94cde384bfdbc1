"""LoRA: counts by formula, who gets a gradient, what a run keeps, and an exact merge."""

import copy

import pytest
import torch
from torch import nn

from vlseg.deploy.errors import UserError
from vlseg.train.loop import open_up
from vlseg.train.models.fold import fold
from vlseg.train.models.grafts import trained_parameters
from vlseg.train.models.lora import layers, merge
from vlseg.train.models.methods import build_model, cacheable, count
from vlseg.train.models.runs import TRAINED, load_run, save_run


def lora(**options):
    return build_model("clipseg/lora", "nano", **options)


def shaken(model, std=0.3):
    for parameter in trained_parameters(model).values():
        nn.init.normal_(parameter, std=std)
    return model


def per_layer(width, targets, rank):
    """Parameters of one encoder layer: rank * (in + out) for each linear."""
    square, mlp = rank * 2 * width, 2 * rank * 5 * width
    return sum(mlp if name == "mlp" else square for name in targets)


@pytest.mark.parametrize(
    ("targets", "towers", "image", "text"),
    [(["q", "k", "v", "out"], "both", 10, 12), (["mlp"], "image", 10, 0), (["out", "mlp"], "text", 0, 12)],
)
def test_counts_at_base_follow_the_formula(targets, towers, image, text):
    with torch.device("meta"):
        model = build_model("clipseg/lora", "base", weights="random", targets=",".join(targets), towers=towers, rank=4)
    expected = image * per_layer(768, targets, 4) + text * per_layer(512, targets, 4)
    assert sum(p.numel() for p in trained_parameters(model).values()) == expected
    assert model.total == 150_747_746 + expected


def test_default_count():
    assert count("clipseg/lora", "base")["trainable"] == 442_368


def test_it_starts_as_the_frozen_model(inputs):
    with torch.no_grad():
        torch.testing.assert_close(
            lora(targets="q,k,v,out,mlp")(*inputs), build_model("clipseg/frozen", "nano")(*inputs)
        )


def test_every_tensor_gets_a_gradient_within_three_steps(inputs):
    model = lora(targets="q,k,v,out,mlp")
    trained = trained_parameters(model)
    optimizer, reached = torch.optim.SGD(trained.values(), lr=1.0), set()
    for _ in range(3):  # the first factor has none until the second has left zero
        optimizer.zero_grad()
        model(*inputs).square().mean().backward()
        reached |= {name for name, p in trained.items() if p.grad is not None and p.grad.any()}
        optimizer.step()
    assert reached == set(trained)
    assert all(p.grad is None for name, p in model.named_parameters() if name not in trained)


@pytest.mark.parametrize("towers", ["both", "image", "text"])
def test_merged_weights_answer_the_same(towers):
    model = shaken(lora(targets="q,k,v,out,mlp", towers=towers, alpha=3.0).double())
    ids, mask = (torch.from_numpy(a) for a in model.tokenizer(["one small lesion", "polyp"]))
    pixels = torch.randn(2, 3, 32, 32).double()
    merged, folded = copy.deepcopy(model), copy.deepcopy(model)
    count_of = {"both": 42, "image": 18, "text": 24}[towers]
    assert merge(merged) == [f"LoRA into {count_of} weights"]
    assert fold(folded)[0] == f"LoRA into {count_of} weights"
    with torch.no_grad():
        before = model(pixels, ids, mask)
        torch.testing.assert_close(merged(pixels, ids, mask), before, rtol=0, atol=1e-12)
        torch.testing.assert_close(folded(pixels, ids, mask), before, rtol=0, atol=1e-12)
        bare = build_model("clipseg/frozen", "nano").double()(pixels, ids, mask)
    assert (before - bare).abs().max() > 1e-3
    assert not any(layers(merged)) and merge(merged) == []


def test_the_merge_is_the_product_of_the_factors():
    model = shaken(lora(rank=3, alpha=1.5, targets="v", towers="text").double())
    path, layer = next(layers(model))
    a, b, weight = layer.lora_A["default"].weight, layer.lora_B["default"].weight, layer.get_base_layer().weight.clone()
    merge(model)
    torch.testing.assert_close(model.get_submodule(path).weight, weight + 1.5 / 3 * (b @ a), rtol=0, atol=1e-12)


def test_dropout_acts_in_training_alone(inputs):
    model = shaken(lora(dropout=0.5))
    with torch.no_grad():
        assert torch.equal(model(*inputs), model(*inputs))
        open_up(model)
        assert not torch.equal(model(*inputs), model(*inputs))


def test_a_run_keeps_the_factors_alone(tmp_path, inputs):
    options = {"rank": 2, "targets": "q,mlp", "towers": "image"}
    model = shaken(lora(**options))
    save_run(tmp_path, model, {"method": "clipseg/lora", "size": "nano", "weights": None, "options": options})
    assert (tmp_path / TRAINED).stat().st_size < 4 * sum(p.numel() for p in trained_parameters(model).values()) + 5000
    again, _ = load_run(tmp_path)
    with torch.no_grad():
        assert torch.equal(again(*inputs), model(*inputs))


@pytest.mark.parametrize(
    ("towers", "image", "text"), [("both", False, False), ("image", False, True), ("text", True, False)]
)
def test_what_can_be_cached(towers, image, text):
    assert cacheable(lora(towers=towers)) == {"image": image, "text": text}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"targets": "q,w"}, "expected such as q,v"),
        ({"targets": ["q"]}, "expected such as q,v"),
        ({"targets": ""}, "expected such as q,v"),
        ({"towers": "all"}, "one of image, text, both"),
        ({"rank": 0}, "from 1 on"),
        ({"alpha": -1}, "above 0"),
        ({"dropout": 1.0}, "0 to below 1"),
        ({"depth": 1}, "known: targets"),
    ],
)
def test_bad_input(options, says):
    with pytest.raises(UserError, match=says):
        lora(**options)
