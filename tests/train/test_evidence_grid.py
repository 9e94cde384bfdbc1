"""A grid file becomes cells in order, and what is wrong with it is said before anything runs."""

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


def test_the_documented_grid_can_be_run():
    cells = read_grid(Path(__file__).parents[2] / "docs" / "grid.toml")
    assert len(cells) > 40 and len(cells) == len(set(cells))


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
        ("[[block", "is not TOML"),
    ],
)
def test_bad_input(tmp_path, text, says):
    with pytest.raises(UserError, match=says):
        read_grid(written(tmp_path, text))


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        read_grid(tmp_path / "nothing.toml")
