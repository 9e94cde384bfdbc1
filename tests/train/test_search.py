import csv
import json

import pytest

from vlseg.deploy.errors import UserError
from vlseg.train import search as module
from vlseg.train.engine import open_run
from vlseg.train.loop import Diverged
from vlseg.train.search import read_space, search

SPACE = {
    "lr": {"low": 1e-3, "high": 1e-1, "log": True},
    "options.rank": {"low": 2, "high": 6},
    "batch_size": {"choices": [2, 4]},
}


def silent(line):
    pass


def rows(out):
    with open(out / "search" / "trials.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def recipe(nano):
    return nano.replace(max_epochs=1)


def test_the_best_trial_becomes_the_run(recipe, shapes, tmp_path):
    out, said = tmp_path / "run", []
    info = search(recipe, read_space(SPACE), 3, shapes, out, say=said.append)
    found = rows(out)
    assert len(found) == 3 and info["search"]["trials"] == 3
    best = min(found, key=lambda row: float(row["val_loss"]))
    assert info["search"]["best"] == best["folder"] and info["search"]["val_loss"] == float(best["val_loss"])
    assert info["recipe"]["lr"] == float(best["lr"]) and info["recipe"]["options"]["rank"] == int(best["options.rank"])
    assert json.loads((out / "run.json").read_text()) == info
    trained = (out / "trained.safetensors").read_bytes()
    assert trained == (out / "search" / best["folder"] / "trained.safetensors").read_bytes()
    with open_run(out) as segmenter:
        assert segmenter is not None
    assert not (out / "search" / "best.partial").exists() and any("best of 3" in line for line in said)


def test_an_interrupted_search_goes_on_as_if_nothing_had_been(recipe, shapes, tmp_path, monkeypatch):
    whole = search(recipe, read_space(SPACE), 3, shapes, tmp_path / "whole", say=silent)
    real, calls = module.fit, []

    def fit(*args, **named):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **named)

    monkeypatch.setattr(module, "fit", fit)
    with pytest.raises(KeyboardInterrupt):
        search(recipe, read_space(SPACE), 3, shapes, tmp_path / "cut", say=silent)
    resumed = search(recipe, read_space(SPACE), 3, shapes, tmp_path / "cut", say=silent)
    assert len(calls) == 4 and calls[1][2] == calls[2][2]  # the trial that was cut goes on in its folder
    assert [{**row, "folder": ""} for row in rows(tmp_path / "cut")] == [
        {**row, "folder": ""} for row in rows(tmp_path / "whole")
    ]
    assert resumed["search"]["values"] == whole["search"]["values"]


def test_more_trials_and_another_search(recipe, shapes, tmp_path):
    out = tmp_path / "run"
    search(recipe, read_space(SPACE), 1, shapes, out, say=silent)
    first = rows(out)
    assert search(recipe, read_space(SPACE), 2, shapes, out, say=silent)["search"]["trials"] == 2
    assert rows(out)[0] == first[0]
    with pytest.raises(UserError, match="another space"):
        search(recipe, read_space({"lr": SPACE["lr"]}), 2, shapes, out, say=silent)
    with pytest.raises(UserError, match="another seed"):
        search(recipe.replace(seed=5), read_space(SPACE), 2, shapes, out, say=silent)


def test_a_trial_that_diverges_counts_and_does_not_end_the_search(recipe, shapes, tmp_path, monkeypatch):
    real, calls = module.fit, []

    def fit(*args, **named):
        calls.append(args)
        if len(calls) < 3:
            raise Diverged("the loss is nan")
        return real(*args, **named)

    monkeypatch.setattr(module, "fit", fit)
    with pytest.raises(UserError, match="all 1 trials"):
        search(recipe, read_space(SPACE), 1, shapes, tmp_path / "run", say=silent)
    info = search(recipe, read_space(SPACE), 3, shapes, tmp_path / "run", say=silent)
    assert [row["val_loss"] == "" for row in rows(tmp_path / "run")] == [True, True, False]
    assert info["search"]["trials"] == 3


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ({"lr": {"low": 1.0}}, "no range"),
        ({"lr": {"low": 2.0, "high": 1.0}}, "no range"),
        ({"lr": {"low": 0.0, "high": 1.0, "log": True}}, "no range"),
        ({"lr": {"low": 0.1, "high": 1.0, "step": 2}}, "no range"),
        ({"lr": {"choices": []}}, "no range"),
        ({"lr": [1, 2]}, "no range"),
        ({}, "nothing to search"),
    ],
)
def test_bad_spaces(space, says):
    with pytest.raises(UserError, match=says):
        read_space(space)


@pytest.mark.parametrize(
    ("changes", "space", "trials", "says"),
    [
        ({}, {"lr": {"low": 0.0, "high": 1.0}}, 1, "expected lr > 0"),
        ({}, {"speed": {"low": 0.0, "high": 1.0}}, 1, "names speed"),
        ({}, {"options.depth": {"low": 1, "high": 3}}, 1, "no option 'depth'"),
        ({"method": "clipseg/coop"}, {"options.depth": {"low": 1, "high": 11}}, 1, "options.depth = 11 does not fit"),
        ({}, SPACE, 0, "no number of trials"),
        ({"devices": 2}, SPACE, 1, "one process"),
        ({"method": "clipseg/none"}, SPACE, 1, "no method"),
    ],
)
def test_bad_searches_leave_nothing(recipe, shapes, tmp_path, changes, space, trials, says):
    with pytest.raises(UserError, match=says):
        search(recipe.replace(**changes), read_space(space), trials, shapes, tmp_path / "run", say=silent)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_search_is_left_alone(recipe, shapes, tmp_path):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(UserError, match="is not a search"):
        search(recipe, read_space(SPACE), 1, shapes, tmp_path, say=silent)
