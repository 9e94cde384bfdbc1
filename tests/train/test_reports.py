"""Features of reports: once for each sentence and encoder, in a file that says nothing of what was reported."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from vlseg.deploy.errors import UserError
from vlseg.train.absent import OBJECTS
from vlseg.train.fit import fit
from vlseg.train.models.methods import build_model
from vlseg.train.recipe import Recipe
from vlseg.train.reports import Reports

TEXTS = ["bilateral infection", "one small lesion on the left"]


def quiet(line):
    """Say nothing."""


def lga(**options):
    return build_model("sam/lga", "nano", **options)


def test_each_sentence_is_encoded_once_for_all_runs(tmp_path):
    model, path = lga(), tmp_path / "deep" / "reports.safetensors"
    first, again = Reports(path, model), None
    first.prepare([*TEXTS, TEXTS[0]], quiet)
    assert first.computed == 2
    again = Reports(path, lga(seed=5, n_ffm=4))
    again.prepare(TEXTS, quiet)
    ids, mask = (torch.from_numpy(array) for array in model.tokenizer(TEXTS[1:]))
    expected = model.text_states(ids, mask)
    assert again.computed == 0
    for found, state in zip(again.states(TEXTS[1]), expected, strict=True):
        torch.testing.assert_close(found, state, rtol=0, atol=1e-6)


def test_another_encoder_or_another_use_of_it_has_its_own(tmp_path):
    path = tmp_path / "reports.safetensors"
    Reports(path, lga()).prepare(TEXTS, quiet)
    several = Reports(path, lga(text_tokens="all"))
    several.prepare(TEXTS, quiet)
    assert several.computed == 2 and several.states(TEXTS[0])[0].shape == (1, 32, 32)
    assert len(load_file(path)) == 8


def test_the_file_holds_no_word(tmp_path):
    path = tmp_path / "reports.safetensors"
    Reports(path, lga()).prepare(TEXTS, quiet)
    content = path.read_bytes()
    assert not any(word.encode() in content for text in TEXTS for word in text.split() if len(word) > 3)


def test_a_sentence_that_was_not_prepared_is_encoded_and_not_written(tmp_path):
    reports = Reports(tmp_path / "reports.safetensors", lga())
    assert reports.states("new")[0].shape == (1, 1, 32) and reports.computed == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("negatives", [0.0, 0.5])
def test_training_with_the_file_is_training_without(shapes, tmp_path, negatives):
    path = tmp_path / "reports.safetensors"
    recipe = Recipe(method="sam/lga", size="nano", batch_size=5, max_epochs=2, min_epochs=1, prompt="p2", seed=0)
    recipe = recipe.replace(negatives=negatives)
    said = []
    fit(recipe, shapes, tmp_path / "without", say=quiet)
    fit(recipe.replace(reports=str(path)), shapes, tmp_path / "with", say=said.append)
    fit(recipe.replace(reports=str(path), seed=1), shapes, tmp_path / "later", say=said.append)
    assert sum("sentences, kept in" in line for line in said) == 1
    assert len(load_file(path)) >= 3 + bool(negatives) * len(OBJECTS)
    states = [load_file(tmp_path / name / "trained.safetensors") for name in ("with", "without")]
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name], rtol=1e-4, atol=1e-5)


def test_bad_files(tmp_path):
    path = tmp_path / "reports.safetensors"
    path.write_bytes(b"not a file of tensors")
    with pytest.raises(UserError, match=r"is damaged.*delete it"):
        Reports(path, lga())
    path.unlink()
    Reports(path, lga()).prepare(TEXTS, quiet)
    save_file({name: tensor[..., :16].contiguous() for name, tensor in load_file(path).items()}, path)
    with pytest.raises(UserError, match=r"holds features of shape \(1, 1, 16\), this encoder makes \(1, 1, 32\)"):
        Reports(path, lga()).prepare(TEXTS, quiet)
    with pytest.raises(UserError, match="leave out reports"):
        Reports(path, build_model("clipseg/full", "nano"))
    with pytest.raises(UserError, match="leave out reports"):
        Reports(path, build_model("clipseg/cocoop", "nano"))
