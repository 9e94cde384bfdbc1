"""`vlseg reproduce`: a paper's table again, by its own seeds and recipes, ours beside what was published.

The ledger is that of `vlseg evidence`: a row for each training, which is not run twice; one that was killed goes on.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from ..deploy.annotations import read_split
from ..deploy.errors import UserError
from .evidence import grid_folder, job_of, written
from .evidence_cell import Job, run_cell, weights_of
from .evidence_grid import Cell
from .fit import Say, check_recipe, to_stderr
from .published import PERCENT, Column, Published, table_of
from .recipe import Recipe, load_recipe
from .recipe_files import read_recipe

MINIATURE = "a miniature: its images are not the paper's, so its figures say that the road is whole and nothing else"


@dataclass(frozen=True)
class Asked:
    """What of a table is wanted, and how.

    Attributes:
        datasets: names of its data sets; none: all of them.
        columns: names of its columns; none: all of them.
        seeds: of the trainings; none: the published ones.
        size: of the backbone; None: the published one.
        set: recipe fields on top of the published ones, "key=value".
        trials: of a search where one was published; None: as many as there, 0: the recipe as it is.
        miniature: the data sets are not the paper's: their counts are not asked for, and every answer says so.
    """

    datasets: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    size: str | None = None
    set: tuple[str, ...] = ()
    trials: int | None = None
    miniature: bool = False


@dataclass(frozen=True)
class Line(Cell):
    """A cell that trains by a shipped recipe as it is published; `found` is what a search made of it."""

    published: str = ""
    found: Recipe | None = None

    @property
    def recipe(self) -> Recipe:
        """What it trains by."""
        if self.found is not None:
            return self.found
        return load_recipe(self.published, self.set, size=self.size).replace(seed=self.seed)

    def key(self, weights_hash: str) -> str:
        """Return 12 hex digits that stand for the cell, whatever a search found for it."""
        return Cell.key(replace(self, found=None), weights_hash)


def reproduce(
    name: str, data: Path | str, out: Path | str, asked: Asked | None = None, *, say: Say = to_stderr
) -> dict[str, Any]:
    """Train and judge what a table holds and return `{table, source, note, rows}`.

    A row is `{data, column, metric, seeds, ours, published, difference}`, percent, HD95 in pixels; `published` is None
    where it is not known here. `data` holds a folder for each data set, as `vlseg data convert` names it; `out` keeps
    runs and the ledger `reproduce.csv`, and goes on where it was stopped.

    Raises:
        UserError: no such table, data set or column; data sets that are missing or have other counts, all of them in
            one sentence and before anything is trained; weights that cannot be had.
    """
    asked, data, out = asked or Asked(), Path(data), Path(out)
    table = chosen(table_of(name), asked)
    check_data(table, data, asked.miniature)
    lines = [(column, cell) for column, cell in cells_of(table, asked)]
    for _, cell in lines:
        check_recipe(cell.recipe)
    ledger = out / "reproduce.csv"
    with grid_folder(out):
        hash_of = weights_of()
        for i, (column, cell) in enumerate(lines):
            job = job_of(cell, data, out, ledger, hash_of(cell))
            if (job.key, cell.prompts[0], cell.data) not in written(ledger):
                say(f"training {i + 1} of {len(lines)}: {cell.data}, {column.name}, seed {cell.seed}")
                run_cell(_searched(table, job, say), [(prompt, cell.data) for prompt in cell.prompts], say)
        keys = {job_of(cell, data, out, ledger, hash_of(cell)).key: (cell.data, column.name) for column, cell in lines}
    note = MINIATURE if asked.miniature else ""
    return {"table": table.name, "source": table.source, "note": note, "rows": list(_rows(table, keys, ledger))}


def chosen(table: Published, asked: Asked) -> Published:
    """Return what of a table is asked for; UserError for a data set or a column that it has not."""
    names = [column.name for column in table.columns]
    for word, given, known in (("data set", asked.datasets, [*table.samples]), ("column", asked.columns, names)):
        if unknown := [one for one in given if one not in known]:
            raise UserError(f"{table.name} has no {word} {unknown[0]!r}; known: {', '.join(known)}")
    samples = {one: counts for one, counts in table.samples.items() if one in (asked.datasets or table.samples)}
    columns = tuple(column for column in table.columns if column.name in (asked.columns or names))
    search = table.search if asked.trials is None else asked.trials
    return replace(table, samples=samples, columns=columns, search=search)


def check_data(table: Published, data: Path, miniature: bool = False) -> None:
    """Refuse data that are not the paper's: every set that is missing or has other counts, in one sentence."""
    wrong = []
    for name, expected in table.samples.items():
        if not (data / name).is_dir():
            wrong.append(f"{name} is missing")
            continue
        counts = {split: len(read_split(data / name, split)) for split in ("train", "val", "test")}
        other = [f"{counts[split]} {split} instead of {n}" for split, n in expected.items() if counts[split] != n]
        if other and not miniature:
            wrong.append(f"{name} has {', '.join(other)} samples")
    if wrong:
        raise UserError(
            f"{data} does not hold the data of {table.name}: {'; '.join(wrong)}: make them with `vlseg data convert`, "
            "name those that you have with --dataset, or say --miniature where the counts do not matter"
        )


def cells_of(table: Published, asked: Asked) -> Iterator[tuple[Column, Line]]:
    """Yield what is to be trained, data set by data set, each with its column."""
    for data in table.samples:
        for column in table.columns:
            sets = (*column.set, *asked.set)
            sized = {} if asked.size is None else {"size": asked.size}
            recipe = load_recipe(column.recipe, sets, **sized)
            for seed in asked.seeds or table.seeds or (recipe.seed,):
                yield column, _cell(recipe, data, seed, sets, column.recipe)


def _cell(recipe: Recipe, data: str, seed: int, sets: tuple[str, ...], published: str) -> Line:
    prompts = (recipe.held_out_prompt,)
    return Line(
        recipe.method, data, seed, recipe.size, prompts, train_prompt=recipe.prompt, set=sets, published=published
    )


def _searched(table: Published, job: Job, say: Say) -> Job:
    """Return the job with the recipe that the published search finds for it; as it is where none was published."""
    cell = job.cell
    if not table.search or not isinstance(cell, Line) or not (space := read_recipe(cell.published).search):
        return job
    from .search import read_space, search

    info = search(cell.recipe, read_space(space), table.search, job.data / cell.data, job.run, say=say)
    return replace(job, cell=replace(cell, found=Recipe(**info["recipe"])))


def _rows(table: Published, keys: dict[str, tuple[str, str]], ledger: Path) -> Iterator[dict[str, Any]]:
    found: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    with open(ledger, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["cell"] in keys:
                found.setdefault(keys[row["cell"]], {})[row["seed"]] = row
    for (data, column), by_seed in found.items():
        for metric in table.metrics:
            yield _row(table, data, column, metric, list(by_seed.values()))


def _row(table: Published, data: str, column: str, metric: str, rows: Sequence[dict[str, str]]) -> dict[str, Any]:
    ours = mean(float(row[metric]) for row in rows) * (100 if metric in PERCENT else 1)
    published = table.score(data, column, metric)
    difference = None if published is None else round(ours - published, 2)
    told = {"data": data, "column": column, "metric": metric, "seeds": [int(row["seed"]) for row in rows]}
    return told | {"ours": round(ours, 2), "published": published, "difference": difference}
