"""LGA by the road that every method takes: fit, resume of its schedule, notes, evaluation."""

import json

import pytest
import torch

from vlseg.deploy.annotations import read_samples
from vlseg.deploy.errors import UserError
from vlseg.deploy.evaluate import evaluate
from vlseg.train.engine import open_run
from vlseg.train.fit import fit
from vlseg.train.models.methods import build_model
from vlseg.train.recipe import Recipe
from vlseg.train.spoken import check_sentences

RECIPE = Recipe(
    method="sam/lga", size="nano", schedule="cosine", warmup_steps=1, dice_weight=0.5, ce_weight=0.5,
    batch_size=4, max_epochs=2, min_epochs=1, prompt="p1", seed=0, lr=1e-3,
)  # fmt: skip


@pytest.fixture(scope="module")
def told():
    return []


@pytest.fixture(scope="module")
def run(shapes, tmp_path_factory, told):
    out = tmp_path_factory.mktemp("lga") / "run"
    fit(RECIPE.replace(augment=True, augmentation="crops"), shapes, out, say=told.append)
    return out


def test_a_run_is_trained_and_judged_as_any_other(run, shapes, told):
    info = json.loads((run / "run.json").read_text())
    assert info["cacheable"] == {"image": True, "text": True} and info["operators"] == "reference"
    assert any("get no gradient and are left out of the optimiser" in line for line in told)
    report = evaluate(open_run(run), read_samples(shapes, "test"), "p1", data="shapes", split="test", hd95=False)
    assert report["n"] == 3 and 0 <= report["mean"]["dice"] <= 1


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("sam/decoder", {}),
        ("sam/lga", {"precision": "bf16-mixed", "options": {"checkpointing": True, "text_tokens": "all"}}),
        ("sam/lga", {"options": {"n_ffm": 1, "text": "none"}}),
        ("sam/lga", {"fidelity": "released"}),
    ],
)
def test_variants_train(method, changes, shapes, tmp_path):
    recipe = RECIPE.replace(method=method, max_epochs=1, **changes)
    info = fit(recipe, shapes, tmp_path / "run", say=lambda line: None)
    assert info["epochs"] == 1
    assert open_run(tmp_path / "run").manifest.method == method


def test_an_empty_report_is_refused_where_one_is_needed(shapes, tmp_path):
    with pytest.raises(UserError, match=r"train\d has an empty report.*options.text=optional"):
        fit(RECIPE.replace(prompt="p0"), shapes, tmp_path / "run", say=lambda line: None)
    assert not (tmp_path / "run").exists()
    fit(RECIPE.replace(prompt="p0", max_epochs=1, options={"text": "optional"}), shapes, tmp_path / "run")


def test_a_report_beyond_the_limit_is_said(shapes):
    model = build_model("sam/lga", "nano")
    samples = read_samples(shapes, "train")
    assert check_sentences(model, {"train": "random"}, {"train": samples}) == []
    samples[0].prompts["p1"] = "upper left lung " * 40
    (note,) = check_sentences(model, {"train": "p1"}, {"train": samples})
    assert note == "1 of 2 sentences of train are longer than what is read of them"


def test_cached_states_give_the_answer_of_the_whole(run, shapes):
    from vlseg.train.cache import CachedModel, MemoryStore
    from vlseg.train.data import Look, Order, Pictures, make_loader

    model = build_model("sam/lga", "nano", text_tokens="all")
    with torch.no_grad():
        for fusion in model.fusions.values():
            fusion.injector.gamma.fill_(0.5)
    look = Look(model.image_size, model.mean, model.std, "p2", 0)
    loader = make_loader(Pictures(read_samples(shapes, "train"), look), Order(10, 5), model.tokenizer)
    forward = CachedModel(model, MemoryStore(2**30), "32", lambda line: None)
    for _ in range(2):
        for batch in loader:
            with torch.no_grad():
                whole = model(batch.pixel_values, batch.input_ids, batch.attention_mask)
                torch.testing.assert_close(forward(batch), whole, rtol=1e-4, atol=1e-5)
    assert forward.stages == {"image": True, "text": True} and 10 < forward.computed <= 13


def test_one_cache_serves_models_that_wait_for_the_sentence_at_other_places(shapes):
    """They have one backbone and one image size, and other states."""
    from vlseg.train.cache import CachedModel, MemoryStore
    from vlseg.train.data import Look, Order, Pictures, make_loader

    store = MemoryStore(2**30)
    for options in ({"n_ffm": 0}, {"n_ffm": 1}, {}, {"text_tokens": "all"}, {"fidelity": "released"}):
        model = build_model("sam/lga", "nano", **options)
        look = Look(model.image_size, model.mean, model.std, "p1", 0)
        (batch, *_) = make_loader(Pictures(read_samples(shapes, "val"), look), Order(4, 4), model.tokenizer)
        with torch.no_grad():
            whole = model(batch.pixel_values, batch.input_ids, batch.attention_mask)
            found = CachedModel(model, store, "32", print)(batch)
        torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-5)


def test_an_empty_prompt_is_refused_by_a_model_that_needs_words(run):
    import numpy as np

    image = np.zeros((30, 40, 3), np.uint8)
    with pytest.raises(UserError, match="needs words and was given none: say what to find"):
        open_run(run).segment(image, "  ")
    assert open_run(run).segment(image, "a bright square").shape == (30, 40)
