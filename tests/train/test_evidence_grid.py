"""A grid file becomes cells in order, and what is wrong with it is said before anything runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from vlseg.deploy.errors import UserError
from vlseg.train.evidence_grid import Cell, read_grid

GRID = """
[common]
minutes = 0.5
train_images = 4

[[block]]
methods = ["otsu", "clipseg/decoder"]
data = ["a", "b"]
seeds = [1, 2]

[[block]]
methods = ["clipseg/decoder", "image/unet"]
data = ["a"]
seeds = [1]
prompts = ["p1", "shuffled:p1"]
train_images = 8
set = ["lr=1e-2", "options={}"]
"""


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "grid.toml").write_text(text)
    return tmp_path / "grid.toml"


def test_methods_come_first_then_data_then_seeds(tmp_path):
    cells = read_grid(written(tmp_path, GRID))
    assert [(cell.seed, cell.data, cell.method) for cell in cells[:5]] == [
        (1, "a", "otsu"), (1, "a", "clipseg/decoder"), (1, "b", "otsu"), (1, "b", "clipseg/decoder"), (2, "a", "otsu"),
    ]  # fmt: skip
    assert len(cells) == 8 + 2
    last = cells[-1]
    assert (last.train_images, last.minutes, last.prompts) == (8, 0.5, ("p1", "shuffled:p1"))


def test_a_cell_is_a_recipe_on_the_clock_of_the_process():
    cell = Cell("clipseg/dense-vl", "a", 7, minutes=0.5, train_images=3, set=("lr=1e-2", "options.rank=2"))
    recipe = cell.recipe
    assert (recipe.clock, recipe.max_minutes, recipe.max_steps) == ("cpu", 0.5, None)
    assert (recipe.seed, recipe.lr, recipe.options, recipe.train_images) == (7, 1e-2, {"rank": 2}, 3)
    assert Cell("clipseg/dense-vl", "a", steps=9).recipe.max_minutes is None  # one budget, not two
    assert Cell("otsu", "a").recipe.prompt == "p1" and not Cell("otsu", "a").trains


def test_the_key_stands_for_the_training_and_not_for_what_is_asked():
    cell = Cell("clipseg/dense-vl", "a")
    assert cell.key("x") == Cell("clipseg/dense-vl", "a", prompts=("p0",)).key("x")
    others = [Cell("clipseg/dense-vl", "a", seed=2), Cell("clipseg/dense-vl", "a", set=("lr=1",)), Cell("otsu", "a")]
    assert len({cell.key("x"), cell.key("y"), *(other.key("x") for other in others)}) == 5


def test_the_key_is_that_of_rows_that_are_there():
    """Rows of docs/measured/evidence.csv were written under it: where it changed, every cell would be run again."""
    cell = Cell("clipseg/decoder", "a", minutes=1.5, train_images=140, val_images=40)
    assert cell.key("0" * 64) == "89810597727f" == replace(cell, test_on=("b",)).key("0" * 64)


def test_sets_at_once_and_in_turn():
    cell = Cell("clipseg/decoder", "a+b>c>a", prompts=("p1", "absent:p1"))
    assert cell.stages == [["a", "b"], ["c"], ["a"]] and cell.learned == cell.judged_on == ["a", "b", "c"]
    assert cell.before == replace(cell, data="a+b>c") and cell.before.before.data == "a+b"  # type: ignore[union-attr]
    assert cell.before.before.before is None  # type: ignore[union-attr]
    assert cell.name("").startswith("a+b-then-c-then-a-clipseg-decoder-41-")
    assert replace(cell, test_on=("d",)).judged_on == ["d"]


GRIDS = sorted((Path(__file__).parents[2] / "docs").glob("grid*.toml"))


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.name)
def test_the_documented_grids_can_be_run(path):
    cells = read_grid(path)
    assert len(cells) > 5 and len(cells) == len(set(cells))


BLOCK = '[[block]]\nmethods = ["otsu"]\ndata = ["a"]\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no"),
        ("lr = 1\n" + BLOCK, "has 'lr'"),
        (BLOCK + "rank = 3", r"has 'rank'; known: data"),
        ('[[block]]\nmethods = "otsu"\ndata = ["a"]', "methods = 'otsu', expected a list"),
        ('[[block]]\nmethods = ["otsu"]', "data = None, expected a list"),
        (BLOCK.replace("otsu", "otsuu"), r"no method 'otsuu'; known: clipseg/frozen.*mean-mask"),
        (BLOCK + "minutes = 0", "minutes = 0, expected a number above 0"),
        (BLOCK + "train_images = 0.5", "train_images = 0.5, expected a whole number"),
        (BLOCK + "seeds = [1.5]", "seed = 1.5, expected a whole number"),
        (BLOCK + "prompts = []", "expected a list such as p1"),
        (BLOCK.replace("otsu", "clipseg/full") + 'set = ["lrr=1"]', "block 1: a recipe has no key 'lrr'"),
        (BLOCK.replace("otsu", "clipseg/full") + 'set = ["options.rank=1"]', "has no option 'rank'"),
        (BLOCK.replace('"a"', '"a+"'), "data = 'a\\+', expected a folder"),
        (BLOCK.replace('"a"', '"a>b"'), "for what trains"),
        ("[[block", "is not TOML"),
    ],
)
def test_bad_input(tmp_path, text, says):
    with pytest.raises(UserError, match=says):
        read_grid(written(tmp_path, text))


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        read_grid(tmp_path / "nothing.toml")
