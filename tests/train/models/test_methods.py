"""Parameter counts of the published table, and who gets a gradient."""

import pytest
import torch

from vlseg.deploy.errors import UserError
from vlseg.train.models.grafts import trained_parameters
from vlseg.train.models.methods import METHODS, build_model, cacheable, count, option_names
from vlseg.train.recipe import load_recipe

COUNTS = {  # VLSM-Adapter, arXiv 2405.06196, and the library's own decoder
    "clipseg/frozen": 0,
    "clipseg/decoder": 1_127_009,
    "clipseg/full": 136_177_249,
    "clipseg/shallow-v": 2_363_136,
    "clipseg/shallow-vl": 3_939_072,
    "clipseg/shallow-vlc": 4_201_984,
    "clipseg/dense-v": 1_784_448,
    "clipseg/dense-vl": 2_974_464,
    "clipseg/dense-vlc": 3_237_376,
}
NEW = [name for name in COUNTS if "/shallow" in name or "/dense" in name]


@pytest.mark.parametrize("name", COUNTS)
def test_published_counts(name):
    row = count(name, "base")
    assert row["trainable"] == COUNTS[name]
    assert row["total"] == 150_747_746 + (COUNTS[name] if name in NEW else 0)
    assert row["image_size"] == 352


def test_every_method_is_counted():
    assert set(METHODS) >= set(COUNTS)


def test_rd64_has_the_plain_upsampler():
    assert count("clipseg/decoder", "rd64")["trainable"] == 1_073_153
    assert count("clipseg/frozen", "rd64")["total"] == 150_693_890


@pytest.mark.parametrize("name", [name for name in COUNTS if name != "clipseg/frozen"])
def test_gradients_reach_exactly_what_trains(name, inputs):
    model = build_model(name, "nano")
    model(*inputs).square().mean().backward()
    trained = trained_parameters(model)
    reached = {key for key, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    silent = set(trained) - reached
    # a key's bias shifts every score of a row alike, so the softmax cannot see it; unused words and places of the
    # embedding still share one tensor with the used ones
    assert all("k_proj.bias" in key for key in silent), silent
    assert reached <= set(trained)


def test_adapters_start_away_from_the_frozen_model_unless_asked(inputs):
    frozen = build_model("clipseg/frozen", "nano")(*inputs)
    assert not torch.equal(build_model("clipseg/dense-vl", "nano")(*inputs), frozen)
    still = build_model("clipseg/dense-vl", "nano", init="zero", outer="identity")(*inputs)
    torch.testing.assert_close(still, frozen)


def test_the_seed_decides_how_parts_start():
    first, again, other = (build_model("clipseg/dense-v", "nano", seed=seed) for seed in (1, 1, 2))
    key = next(iter(trained_parameters(first)))
    assert torch.equal(first.state_dict()[key], again.state_dict()[key])
    assert not torch.equal(first.state_dict()[key], other.state_dict()[key])


@pytest.mark.parametrize(
    ("name", "image", "text"),
    [("decoder", True, True), ("full", False, False), ("shallow-vlc", True, True), ("dense-v", False, True)],
)
def test_what_can_be_cached(name, image, text):
    assert cacheable(build_model(f"clipseg/{name}", "nano")) == {"image": image, "text": text}
    stages = {"image": image, "text": text}
    assert count(f"clipseg/{name}", "base")["cached"] == [stage for stage, whole in stages.items() if whole]


def test_layer_range_and_rank_are_options():
    model = build_model("clipseg/dense-v", "nano", rank=3, first_layer=1, last_layer=2)
    assert sum(p.numel() for p in trained_parameters(model).values()) == 4 * (2 * 32 * 3 + 3 + 32)


@pytest.mark.parametrize(
    ("name", "size", "options", "says"),
    [
        ("clipseg/nope", "nano", {}, "known: clipseg/frozen"),
        ("clipseg/full", "huge", {}, "known: tiny"),
        ("clipseg/dense-v", "nano", {"ranks": 3}, "known: rank"),
        ("clipseg/decoder", "nano", {"rank": 3}, "known: none"),
        ("clipseg/dense-v", "nano", {"rank": 0}, "expected 1 or more"),
        ("clipseg/dense-v", "nano", {"last_layer": 99}, "from 0 to"),
        ("clipseg/dense-v", "nano", {"init": "zero"}, "outer=identity"),
        ("clipseg/full", "nano", {"weights": "/no/such/folder"}, "no weights at"),
        ("clipseg/full", "nano", {"image_size": 33}, "multiple of the patch size 8"),
    ],
)
def test_bad_input(name, size, options, says):
    with pytest.raises(UserError, match=says):
        build_model(name, size, **options)


def test_option_names():
    assert "rank" in option_names("clipseg/dense-vl")


def test_none_on_the_command_line_is_a_word_where_an_option_has_it():
    recipe = load_recipe(None, ["options.text=none", "options.places=none"], method="sam/lga", size="nano")
    model = build_model(recipe.method, recipe.size, **recipe.options)
    assert model.report.reader is None and not model.needs_words
