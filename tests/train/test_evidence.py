"""A grid runs cell by cell in processes of their own, leaves rows, and is not run twice."""

import csv
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vlseg.deploy.annotations import read_split
from vlseg.deploy.errors import UserError
from vlseg.train.absent import OBJECTS
from vlseg.train.evidence import evidence
from vlseg.train.evidence_cell import ASKED, Job, Watched, ask, run_cell
from vlseg.train.evidence_grid import Cell
from vlseg.train.models.runs import read_run

QUICK = ("min_epochs=1", "max_epochs=2", "batch_size=4")


def silent(line: str) -> None:
    """Say nothing."""


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def grid(tmp_path: Path, methods: list[str], more: str = "") -> Path:
    settings = f"methods = {json.dumps(methods)}\nset = {json.dumps(QUICK)}\n"
    (tmp_path / "grid.toml").write_text(f'[[block]]\nsize = "nano"\ndata = ["shapes"]\n{settings}{more}')
    return tmp_path / "grid.toml"


def test_each_cell_leaves_its_rows_and_is_not_run_again(shapes, tmp_path):
    said, out = [], tmp_path / "out"
    path = grid(tmp_path, ["otsu", "clipseg/decoder"], 'prompts = ["p1"]')
    first = evidence(path, shapes.parent, out, say=said.append)
    assert [len(first[how]) for how in ("done", "before", "failed")] == [2, 0, 0] and len(said) == 2
    again = evidence(path, shapes.parent, out, say=said.append)
    assert again["before"] == first["done"] and len(said) == 2
    otsu, decoder = rows_of(out / "evidence.csv")
    assert float(otsu["dice"]) > 0.95 and otsu["weights_hash"] == otsu["trained_parameters"] == ""
    assert decoder["n"] == "3" and decoder["epochs"] == "2" and decoder["steps"] == "6" and decoder["date"]
    assert len(decoder["weights_hash"]) == 64 and int(decoder["trained_parameters"]) > 0
    assert 0 < float(decoder["megabytes"]) < 1
    assert 0 < float(decoder["minutes_to_95"]) < float(decoder["train_minutes"]) + 1
    images = [rows_of(path) for path in sorted((out / "cells").glob("*.images.csv"))]
    assert [len(rows) for rows in images] == [3, 3] and all(0 <= float(row["dice"]) <= 1 for row in images[0])
    curve = rows_of(out / "curves.csv")
    assert [row["epoch"] for row in curve] == ["0", "1"] and {row["cell"] for row in curve} == {decoder["cell"]}


def test_a_cell_that_fails_is_named_and_the_others_run(shapes, tmp_path, capfd):
    found = evidence(
        grid(tmp_path, ["otsu"], 'prompts = ["p7"]\n[[block]]\nmethods = ["mean-mask"]\ndata = ["shapes"]'),
        shapes.parent, tmp_path / "out", tmp_path / "rows.csv", say=silent,
    )  # fmt: skip
    assert len(found["failed"]) == 1 and found["failed"][0].startswith("shapes-otsu-41-")
    assert [row["method"] for row in rows_of(tmp_path / "rows.csv")] == ["mean-mask"]
    assert "no prompt key 'p7'" in capfd.readouterr().err


def test_folders_that_are_not_there_not_ours_or_in_use(shapes, tmp_path):
    path, out = grid(tmp_path, ["otsu"]), tmp_path / "out"
    with pytest.raises(UserError, match="no data folder"):
        evidence(path, tmp_path, out, say=silent)
    assert not out.exists()
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="is not of a grid"):
        evidence(path, shapes.parent, out, say=silent)
    (out / "thesis.txt").rename(out / "evidence.json")
    with open(out / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="is in use by another process"):
            evidence(path, shapes.parent, out, say=silent)


@pytest.mark.slow
def test_killed_in_a_training_it_goes_on(shapes, tmp_path):
    """Grid and cell die together; started again, the training goes on and every row is there once."""
    more = 'steps = 45\n[[block]]\nmethods = ["otsu"]\ndata = ["shapes"]'
    path, out = grid(tmp_path, ["clipseg/dense-vl"], more), tmp_path / "out"
    path.write_text(path.read_text().replace('"max_epochs=2"', '"max_epochs=40", "patience=40"'))
    words = ["evidence", str(path), "--data", str(shapes.parent), "--out", str(out)]
    command = [sys.executable, "-c", "from vlseg.cli.door import main; main()", *words]
    first = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    try:
        while not list(out.glob("cells/*/state/last.safetensors")) and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    assert not (out / "evidence.csv").exists()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "resuming" in done.stderr
    rows = rows_of(out / "evidence.csv")
    assert [row["method"] for row in rows] == ["clipseg/dense-vl", "otsu"]
    epochs = [int(row["epoch"]) for row in rows_of(out / "curves.csv")]
    assert epochs == list(range(len(epochs))) and len(epochs) == int(rows[0]["epochs"])


@pytest.mark.parametrize("method", ["clipseg/frozen", "image/unet", "mean-mask"])
def test_more_prompts_are_asked_without_training_again(shapes, tmp_path, method, monkeypatch):
    cell = Cell(method, "shapes", size="nano", steps=2, set=QUICK)
    job = Job.from_json(Job(cell, shapes.parent, tmp_path / "run", tmp_path / "rows.csv", "").to_json())
    assert job.cell == cell
    run_cell(job, [("p1", "shapes")], silent)
    monkeypatch.setattr("vlseg.train.fit.train_model", None)
    (row,) = run_cell(job, [("=a polyp", "shapes")], silent)
    assert [one["prompt"] for one in rows_of(tmp_path / "rows.csv")] == ["p1", "=a polyp"]
    assert row["cell"] == job.key and row["tested_on"] == "shapes"
    if method == "image/unet":
        assert row["steps"] == 2 and row["epochs"] == 1


def test_judged_on_another_folder_it_sees_all_of_it(shapes, tmp_path):
    (tmp_path / "shapes").symlink_to(shapes)
    (tmp_path / "other").symlink_to(shapes)
    cell = Cell("otsu", "shapes", size="nano", test_on=("other", "shapes"), train_images=3, val_images=2)
    asked = [("p1", "other"), ("p1", "shapes")]
    rows = run_cell(Job(cell, tmp_path, tmp_path / "run", tmp_path / "rows.csv", ""), asked, silent)
    assert [(row["tested_on"], row["n"]) for row in rows] == [("other", 10 + 4 + 3), ("shapes", 3)]


def test_what_is_asked(shapes):
    samples = read_split(shapes, "train")
    keys = [sample.prompts[ASKED] for sample in ask(samples, "p1")]
    assert keys == ["a bright square"] * 10
    assert {sample.prompts[ASKED] for sample in ask(samples, "=a polyp")} == {"a polyp"}
    own, shuffled = ([s.prompts[ASKED] for s in ask(samples, key)] for key in ("p2", "shuffled:p2"))
    assert all(a != b for a, b in zip(own, shuffled, strict=True)) and set(shuffled) <= set(own)
    assert [s.prompts[ASKED] for s in ask(samples, "shuffled:p1")] == keys  # there is no other
    for wrong in ("p9", "mixed:p1", ":p1"):
        with pytest.raises(UserError, match="no prompt"):
            ask(samples, wrong)


def test_what_is_absent_is_asked_with_an_empty_answer(shapes):
    samples = read_split(shapes, "test")
    asked = ask(samples, "absent:p1")
    assert all(one.absent and one.prompts[ASKED] in OBJECTS for one in asked)
    others = {"cats": [replace(sample, prompts={"p1": "a cat"}) for sample in samples]}
    assert "a cat" in {one.prompts[ASKED] for one in ask(read_split(shapes, "train"), "absent:p1", others)}
    assert [(one.absent, one.prompts[ASKED]) for one in ask(samples, "absent=a kidney")] == [(True, "a kidney")] * 3
    assert not any(one.absent for one in ask(samples, "p1"))


def test_a_stage_starts_from_the_run_of_the_one_before(shapes, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(shapes, tmp_path / name)
    cell = Cell("clipseg/decoder", "a>b", size="nano", set=QUICK)
    job = Job(cell, tmp_path, tmp_path / "cells" / cell.name("x"), tmp_path / "rows.csv", "x")
    rows = run_cell(Job.from_json(job.to_json()), [("p1", "a"), ("absent:p1", "b")], silent)
    assert [(row["data"], row["tested_on"], row["prompt"]) for row in rows] == [
        ("a>b", "a", "p1"), ("a>b", "b", "absent:p1"),
    ]  # fmt: skip
    earlier = read_run(tmp_path / "cells" / Cell("clipseg/decoder", "a", size="nano", set=QUICK).name("x"))
    assert read_run(job.run)["learned"] == ["a"] and earlier["data"] == "a" and "learned" not in earlier


@pytest.mark.slow
def test_several_sets_at_once_and_in_turn(shapes, tmp_path):
    """The second stage starts from the run of the first, which a cell of its own may have left there."""
    for name in ("a", "b"):
        shutil.copytree(shapes, tmp_path / name)
    text = f'[[block]]\nsize = "nano"\nmethods = ["clipseg/decoder"]\nset = {json.dumps(QUICK)}\n'
    text += 'data = ["a", "a>b", "a+b"]\nprompts = ["p1", "absent:p1"]'
    (tmp_path / "grid.toml").write_text(text)
    found = evidence(tmp_path / "grid.toml", tmp_path, tmp_path / "out", say=silent)
    assert [len(found[how]) for how in ("done", "failed")] == [3, 0]
    rows = rows_of(tmp_path / "out" / "evidence.csv")
    asked = [(row["data"], row["tested_on"], row["prompt"]) for row in rows]
    every = [("a", "a"), ("a>b", "a"), ("a>b", "b"), ("a+b", "a"), ("a+b", "b")]
    assert asked == [(data, on, prompt) for data, on in every for prompt in ("p1", "absent:p1")]
    runs = {path.parent.name: json.loads(path.read_text()) for path in (tmp_path / "out").glob("cells/*/run.json")}
    assert sorted(info.get("learned", []) for info in runs.values()) == [[], [], ["a"]]
    together = next(info for name, info in runs.items() if name.startswith("a+b"))
    assert together["data"] == "a+b" and together["images"] == {"train": 20, "val": 8}


def test_masks_as_good_as_empty_are_counted():
    class Fixed:
        engine = "numpy"

        def segment(self, image, prompt, threshold):
            mask = np.zeros((100, 100), bool)
            mask.flat[: int(prompt)] = True
            return mask

    watched = Watched(Fixed())  # type: ignore[arg-type]
    for pixels in ("0", "99", "100", "5000"):
        watched.segment(np.zeros((1, 1, 3), np.uint8), pixels, 0.5)
    assert watched.empty == 2
