"""A grid of evidence: which methods, on which data, with which seeds and budget; from a TOML file to cells in order.

A cell is one training, or one rule that needs none, and the sentences it is then asked with.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..deploy.errors import UserError
from .fit import check_recipe
from .models.methods import METHODS
from .recipe import Recipe, load_recipe
from .recipe_files import read_toml

RULES = ("otsu", "mean-mask")
"""What learns nothing and reads no sentence: a threshold on gray, and the mean of the training masks."""
STAND_IN = "clipseg/dense-vl"  # whose recipe says how a rule reads its images


@dataclass(frozen=True)
class Cell:
    """One entry of a grid.

    Attributes:
        method: as `vlseg methods` lists them, or one of `RULES`.
        data: name of the folder that is trained on; of several as one, "a+b"; one after another, "a>b".
        seed: of the recipe.
        size: of the backbone.
        prompts: what the test images are asked: a key (p1), `shuffled:KEY` (another image's), `=WORDS` (these); and
            `absent:KEY` (a phrase of another folder that was learned, or of `OBJECTS`), `absent=WORDS`, whose answer
            is an empty mask.
        minutes: of training, as the process computed them; None: the recipe's own limit.
        steps: optimiser steps at most; None: no limit.
        train_prompt: key of the sentences of training and validation.
        train_images: so many of the training images; None: all.
        val_images: so many of the validation images; None: all.
        test_on: names of the folders it is judged on: all images of one that it did not learn from, the test images of
            one that it did; none: of each folder in `data`.
        set: overrides of the recipe, "key=value".
    """

    method: str
    data: str
    seed: int = 41
    size: str = "tiny"
    prompts: tuple[str, ...] = ("p1",)
    minutes: float | None = None
    steps: int | None = None
    train_prompt: str = "p1"
    train_images: int | None = None
    val_images: int | None = None
    test_on: tuple[str, ...] = ()
    set: tuple[str, ...] = ()

    @property
    def recipe(self) -> Recipe:
        """What it trains by; UserError where there is no such method, option or value."""
        recipe = load_recipe(None, self.set, method=STAND_IN if self.method in RULES else self.method, size=self.size)
        limits = {"max_minutes": self.minutes, "max_steps": self.steps} if self.minutes or self.steps else {}
        images = {"train_images": self.train_images, "val_images": self.val_images}
        return recipe.replace(prompt=self.train_prompt, seed=self.seed, clock="cpu", **limits, **images)

    def key(self, weights_hash: str) -> str:
        """Return 12 hex digits that stand for the cell on these frozen weights; what it is asked is not in them."""
        told = {name: value for name, value in asdict(self).items() if name != "prompts"} | {"test_on": None}
        return hashlib.sha256(json.dumps([told, weights_hash], sort_keys=True).encode()).hexdigest()[:12]

    def name(self, weights_hash: str) -> str:
        """Return what its folder is called."""
        data = self.data.replace(">", "-then-")
        return f"{data}-{self.method.replace('/', '-')}-{self.seed}-{self.key(weights_hash)}"

    @property
    def stages(self) -> list[list[str]]:
        """Names of the folders that it learns, together those of a stage, one stage after another."""
        return [stage.split("+") for stage in self.data.split(">")]

    @property
    def learned(self) -> list[str]:
        """Names of all folders that it learns."""
        return list(dict.fromkeys(name for stage in self.stages for name in stage))

    @property
    def before(self) -> "Cell | None":
        """The cell whose run its last stage starts from."""
        earlier = self.data.rpartition(">")[0]
        return replace(self, data=earlier, test_on=()) if earlier else None

    @property
    def judged_on(self) -> list[str]:
        """Names of the folders it is judged on."""
        return list(self.test_on) or self.learned

    @property
    def trains(self) -> bool:
        """Is there anything to train?"""
        return self.method not in RULES and not self.method.endswith("/frozen")


def read_grid(path: Path | str) -> list[Cell]:
    """Return the cells of a grid file in the order in which they are to be run.

    A file has blocks `[[block]]`, each with lists `methods`, `data` and `seeds` and other fields of a cell; `[common]`
    holds what all blocks share. Within a block the methods come first, then the data sets, then the seeds. A cell that
    an earlier block has is not repeated.

    Raises:
        UserError: no TOML, an unknown key or method, a value of the wrong kind, or a recipe that cannot be.
    """
    content = read_toml(Path(path))
    if unknown := content.keys() - {"common", "block"}:
        raise UserError(f"{path} has {min(unknown)!r}: expected [common] and [[block]]")
    blocks = content.get("block")
    if not isinstance(blocks, list) or not blocks:
        raise UserError(f"{path} has no [[block]]: expected one or more, each with methods, data and seeds")
    cells = [cell for i, block in enumerate(blocks) for cell in _cells(content.get("common", {}) | block, path, i)]
    return list(dict.fromkeys(cells))


def _cells(block: Mapping[str, Any], path: Path | str, index: int) -> Iterator[Cell]:
    where, lists = f"{path}, block {index + 1}", {"methods": "method", "data": "data", "seeds": "seed"}
    known = {f.name for f in fields(Cell)} - {"method", "seed"} | lists.keys()
    if unknown := block.keys() - known:
        raise UserError(f"{where} has {min(unknown)!r}; known: {', '.join(sorted(known))}")
    for name in ("methods", "data"):
        if not _is_list(block.get(name), str):
            raise UserError(f"{where}: {name} = {block.get(name)!r}, expected a list of names")
    shared: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in block.items() if key not in lists
    }
    if isinstance(on := shared.get("test_on", ()), str):
        shared["test_on"] = (on,)
    for seed in block.get("seeds", [41]):
        for data in block["data"]:
            for method in block["methods"]:
                yield _checked(Cell(method, data, seed, **shared), where)


def _checked(cell: Cell, where: str) -> Cell:
    if cell.method not in METHODS and cell.method not in RULES:
        raise UserError(f"{where}: no method {cell.method!r}; known: {', '.join([*METHODS, *RULES])}")
    if not all(cell.learned) or (not cell.trains and cell.before):
        raise UserError(
            f"{where}: data = {cell.data!r}, expected a folder, a+b for several as one, or a>b in turn for what trains"
        )
    if not _is_list(list(cell.prompts), str):
        raise UserError(f"{where}: prompts = {cell.prompts!r}, expected a list such as p1, shuffled:p1 or =a polyp")
    for name in ("seed", "train_images", "val_images", "steps"):
        value = getattr(cell, name)
        if value is not None and (type(value) is not int or value < (0 if name == "seed" else 1)):
            raise UserError(f"{where}: {name} = {value!r}, expected a whole number")
    if cell.minutes is not None and (type(cell.minutes) not in (int, float) or not cell.minutes > 0):
        raise UserError(f"{where}: minutes = {cell.minutes!r}, expected a number above 0")
    try:
        check_recipe(cell.recipe)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return cell


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, kind) for item in value)
