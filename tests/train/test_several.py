"""One part for several data folders, and one folder after another."""

import csv
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from vlseg.cli.door import app
from vlseg.deploy.errors import UserError
from vlseg.train.data import Order
from vlseg.train.fit import fit
from vlseg.train.models.runs import RUN, TRAINED, load_run, seal_run
from vlseg.train.threshold import choose_for_all


def silent(line: str) -> None:
    """Say nothing."""


def changed(run, info: dict) -> None:
    """Write another `run.json`, and seal it."""
    (run / RUN).write_text(json.dumps(info))
    seal_run(run, {TRAINED: run / TRAINED})


def test_each_folder_has_its_figures_and_the_mean_decides(pair, tmp_path, nano):
    info = fit(nano.replace(prompt="p1"), pair, tmp_path / "run", say=silent)
    assert info["data"] == "shapes+dots" and info["images"] == {"train": 15, "val": 6, "test": 5}
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines()))
    for row in rows:
        own = [float(row[f"val_dice/{name}"]) for name in ("dots", "shapes")]
        assert float(row["val_dice"]) == pytest.approx(np.mean(own))
    best = max(range(len(rows)), key=lambda i: float(rows[i]["val_dice"]))
    assert info["best_epoch"] == best
    for split, n in (("val", None), ("test", 5)):
        scores = info["metrics"][split]
        assert scores["dice"] == pytest.approx(np.mean([own["dice"] for own in scores["sets"].values()]))
        assert list(scores["sets"]) == ["shapes", "dots"] and scores.get("n") == n
    assert info["metrics"]["test"]["sets"]["dots"]["n"] == 2
    assert info == json.loads((tmp_path / "run" / "run.json").read_text())
    load_run(tmp_path / "run")
    card = (tmp_path / "run" / "MODEL_CARD.md").read_text()
    assert (
        "| test | 5 |" in card and f"| test, dots | 2 | {info['metrics']['test']['sets']['dots']['dice']:.3f} |" in card
    )


def test_drawn_by_sets_each_counts_the_same():
    order = Order(12, 4, seed=1, groups=[10, 2])
    for epoch in (0, 1):
        order.set_epoch(epoch)
        drawn = [position for _, position in order]
        small = [position for position in drawn if position >= 10]
        assert len(drawn) == 12 and small.count(10) == small.count(11) == 3
        assert len(set(drawn) - set(small)) == 6
    uneven = Order(11, 4, seed=1, groups=[6, 3, 2])
    counts = np.bincount([int(np.searchsorted([6, 9], p, side="right")) for _, p in uneven], minlength=3)
    assert counts.sum() == 11 and counts.min() >= 3 and counts.max() == 4
    ranks = [list(Order(12, 4, seed=1, rank=r, world_size=2, groups=[10, 2])) for r in (0, 1)]
    assert sorted(ranks[0] + ranks[1]) == sorted(Order(12, 4, seed=1, groups=[10, 2]))


def test_the_threshold_is_that_of_the_mean_over_folders(pair, nano):
    from vlseg.train.splits import by_set, read_splits

    own = by_set(read_splits(pair, nano)["val"], ("shapes", "dots"))
    level, dice = choose_for_all(lambda image, text: image[..., 0] / 255, own, "p1")
    one, two = (choose_for_all(lambda i, t: i[..., 0] / 255, {name: own[name]}, "p1") for name in own)
    assert 0.2 < level < 0.5 and dice["shapes"] <= one[1]["shapes"] and dice["dots"] <= two[1]["dots"]


def test_a_run_starts_from_another(pair, tmp_path, nano):
    said = []
    fit(nano.replace(prompt="p1", lr=1e-2), pair[0], tmp_path / "first", say=silent)
    recipe = nano.replace(prompt="p1", lr=1e-9, max_epochs=1, start=str(tmp_path / "first"))
    info = fit(recipe, pair[1], tmp_path / "second", say=said.append)
    assert info["learned"] == ["shapes"] and "learned shapes" in said[0]
    one, two = (load_file(tmp_path / run / "trained.safetensors") for run in ("first", "second"))
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in one)
    third = fit(recipe.replace(start=str(tmp_path / "second")), pair[0], tmp_path / "third", say=silent)
    assert third["learned"] == ["shapes", "dots"]
    assert "Learned before, in turn: shapes, dots." in (tmp_path / "third" / "MODEL_CARD.md").read_text()


def test_what_cannot_be_started_from_is_refused_before_anything_is_written(pair, tmp_path, nano):
    run = tmp_path / "first"
    fit(nano.replace(max_epochs=1), pair[0], run, say=silent)
    for recipe, says in (
        (nano.replace(start=str(tmp_path / "nothing")), "is not a run"),
        (nano.replace(start=str(run), method="clipseg/dense-v"), "run of clipseg/dense-vl, not of clipseg/dense-v"),
        (nano.replace(start=str(run), options={"rank": 2}), "does not fit"),
    ):
        with pytest.raises(UserError, match=says):
            fit(recipe, pair[1], tmp_path / "second", say=silent)
    info = json.loads((run / "run.json").read_text())
    changed(run, info | {"weights_hash": "0" * 64})
    with pytest.raises(UserError, match="other weights"):
        fit(nano.replace(start=str(run)), pair[1], tmp_path / "second", say=silent)
    save_file({}, run / "trained.safetensors")
    changed(run, info)
    with pytest.raises(UserError, match="does not fit"):
        fit(nano.replace(start=str(run)), pair[1], tmp_path / "second", say=silent)
    assert not (tmp_path / "second").exists()


def test_a_run_from_before_these_fields_is_still_the_same(shapes, tmp_path, nano):
    """A key that is younger than a run counts as its default there."""
    run = tmp_path / "run"
    info = fit(nano.replace(max_epochs=1), shapes, run, say=silent)
    for key in ("negatives", "balance", "start"):
        del info["recipe"][key]
    changed(run, info)
    assert fit(nano.replace(max_epochs=1), shapes, run, say=silent)["recipe"] == info["recipe"]
    with pytest.raises(UserError, match="another negatives"):
        fit(nano.replace(max_epochs=1, negatives=0.5), shapes, run, say=silent)


def test_on_the_command_line(pair, tmp_path):
    words = ["train", "clipseg/decoder", "--size", "nano", "--set", "max_epochs=1", "--set", "min_epochs=0", "--json"]
    folders = [word for folder in pair for word in ("--data", str(folder))]
    done = CliRunner().invoke(app, [*words, *folders, "--out", str(tmp_path / "run")])
    assert done.exit_code == 0 and list(json.loads(done.stdout)["metrics"]["val"]["sets"]) == ["shapes", "dots"]
    words += ["--data", str(pair[1]), "--init", str(tmp_path / "run"), "--out", str(tmp_path / "next")]
    assert json.loads(CliRunner().invoke(app, words).stdout)["learned"] == ["shapes+dots"]
