"""Arms of a grid are compared image by image, over the seeds that both sides have."""

import csv
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vlseg.deploy.errors import UserError
from vlseg.train.arms import compare_arms, main, read_arms
from vlseg.train.evidence_cell import Job, images_file
from vlseg.train.evidence_grid import read_grid

GRID = """
[common]
prompts = ["p6"]
train_prompt = "p6"
set = ["lr=1e-3"]

[[block]]
methods = ["sam/lga"]
data = ["a"]
seeds = [1, 2]
prompts = ["p6", "shuffled:p6"]

[[block]]
methods = ["mean-mask"]
data = ["a"]

[[block]]
methods = ["sam/lga"]
data = ["a"]
seeds = [1, 2, 3]
set = ["lr=1e-3", "options.text=none"]

[[block]]
methods = ["sam/lga"]
data = ["a"]
seeds = [1]
train_prompt = "p1"
prompts = ["p1"]
"""


@pytest.fixture
def told(tmp_path):
    """A grid of which all but the last cell was run; image i of the first arm has Dice 0.5 + i / 100."""
    (tmp_path / "grid.toml").write_text(GRID)
    (tmp_path / "out" / "cells").mkdir(parents=True)
    for index, cell in enumerate(read_grid(tmp_path / "grid.toml")[:-1]):
        run = tmp_path / "out" / "cells" / f"run{index}"
        job = Job(cell, tmp_path, run, tmp_path / "rows.csv", "x")
        run.with_suffix(".json").write_text(json.dumps({"job": json.loads(job.to_json()), "prompts": []}))
        lost = 0.1 if "options.text=none" in cell.set else 0.0
        lost += 5 if cell.seed == 3 else 0  # a seed that the other side does not have
        rows = [
            (prompt, f"{i}.jpg", 0.5 + i / 100 + cell.seed / 10 - lost - 0.02 * prompt.startswith("shuffled"))
            for prompt in cell.prompts
            for i in range(8)
        ]
        text = "".join(f"{prompt},{name},{dice}\n" for prompt, name, dice in rows)
        images_file(run).write_text("prompt,image,dice\n" + text)
    return tmp_path


def test_arms_over_their_common_seeds(told, monkeypatch):
    words = [str(told / "grid.toml"), "--out", str(told / "out"), "--csv", str(told / "pairs.csv")]
    monkeypatch.setattr(sys, "argv", ["arms", *words])
    main()
    with open(told / "pairs.csv", newline="") as file:
        shuffled, none = csv.DictReader(file)
    assert (shuffled["a"], shuffled["prompt_a"], shuffled["prompt_b"]) == ("sam/lga", "p6", "shuffled:p6")
    assert float(shuffled["difference"]) == pytest.approx(0.02) and shuffled["n"] == "8"
    assert (none["a"], none["b"], none["seeds"]) == ("sam/lga text=none", "sam/lga", "1 2")
    assert float(none["difference"]) == pytest.approx(-0.1) and float(none["high"]) == pytest.approx(-0.1)


def test_what_another_sentence_in_training_does_is_named(told):
    cell = read_grid(told / "grid.toml")[-1]
    run = told / "out" / "cells" / "last"
    job = Job(cell, told, run, told / "rows.csv", "x")
    run.with_suffix(".json").write_text(json.dumps({"job": json.loads(job.to_json()), "prompts": []}))
    images_file(run).write_text("prompt,image,dice\n" + "".join(f"p1,{i}.jpg,0.5\n" for i in range(8)))
    (row,) = [row for row in compare_arms(read_arms(told / "grid.toml", told / "out")) if "trained" in row["a"]]
    assert row["a"] == "sam/lga trained on p1" and (row["prompt_a"], row["prompt_b"]) == ("p1", "p6")


def test_a_cell_that_kept_no_image_is_asked_again(told, trained_run, drawn_data):
    """As one does whose rows were written before the Dice of each image was kept."""
    (cell,) = [cell for cell in read_grid(told / "grid.toml") if cell.train_prompt == "p1"]
    cell = replace(cell, data=drawn_data.name)
    run = told / "out" / "cells" / "older"
    shutil.copytree(trained_run, run)
    job = Job(cell, drawn_data.parent, run, told / "rows.csv", "x")
    run.with_suffix(".json").write_text(json.dumps({"job": json.loads(job.to_json()), "prompts": []}))
    (told / "grid.toml").write_text(GRID.replace('data = ["a"]', f'data = ["{drawn_data.name}"]'))
    arms = read_arms(told / "grid.toml", told / "out", drawn_data.parent)
    assert [len(dice) for arm in arms for dice in arm.dice.values()] == [5] and images_file(run).exists()


def test_a_grid_that_was_not_run(tmp_path):
    (tmp_path / "grid.toml").write_text(GRID)
    with pytest.raises(UserError, match="run vlseg evidence first"):
        read_arms(tmp_path / "grid.toml", tmp_path)


def test_the_documented_grid_holds_what_the_tables_ask_for():
    cells = read_grid(Path(__file__).parents[2] / "docs" / "grid-lga.toml")
    arms = {(cell.data, cell.train_prompt, word) for cell in cells for word in cell.set}
    assert len(cells) <= 25 and cells[0].prompts == ("p6", "shuffled:p6", "p1")
    assert {("busi", "p6", f"options.n_ffm={n}") for n in (0, 1, 2, 3, 5)} <= arms  # 4 is the first cell
    assert {(cell.data, cell.train_prompt) for cell in cells} == {
        ("busi", "p6"), ("busi", "p1"), ("cxr_covid", "p2"), ("cxr_covid", "p1"),
    }  # fmt: skip
    assert {("busi", "p6", f"image_size={side}") for side in (128, 512)} <= arms
    for word in ("options.text=none", "options.text_tokens=all", None):
        seeds = {
            cell.seed for cell in cells if cell.data == "busi" and (word in cell.set if word else len(cell.set) == 6)
        }
        assert seeds == {41, 42, 43}
