"""The arms of a grid against each other, image by image: every one against the first on its data, and asked otherwise.

`python -m vlseg.train.arms GRID --out OUT --csv ROWS`, after `vlseg evidence GRID --out OUT`. An arm is a cell without
its seed; an image's Dice is its mean over the seeds that both sides have, and the bootstrap draws images. With `--data`
the runs of cells that kept no Dice of their images, as older ones did, are asked again.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

from ..deploy.errors import UserError
from ..deploy.rows import append_row
from .evidence_cell import Job, images_file, keep_images
from .evidence_grid import Cell, read_grid
from .models.runs import RUN
from .pairs import bootstrap, scores

Dice = dict[str, float]
"""Of each image by its name."""
ANY_SEED = 0


@dataclass(frozen=True)
class Arm:
    """A cell of any seed, and for each seed and prompt the Dice of every image."""

    cell: Cell
    dice: dict[tuple[int, str], Dice] = field(default_factory=dict)

    def mean_of(self, seeds: Sequence[int], prompt: str) -> Dice:
        """Return the mean over some seeds of each image's Dice."""
        some = [self.dice[seed, prompt] for seed in seeds]
        return {image: mean(one[image] for one in some) for image in some[0]}

    def seeds(self, prompt: str) -> set[int]:
        """Return the seeds that were asked this."""
        return {seed for seed, asked in self.dice if asked == prompt}


def read_arms(grid: Path, out: Path, data: Path | None = None) -> list[Arm]:
    """Return what a grid's cells found so far, in the grid's order; UserError where there is nothing yet.

    `data` is the folder of data folders on which runs are asked again where the Dice of their images is not there.
    """
    arms: dict[Cell, Arm] = {}
    runs = _runs(out, data)
    for cell in read_grid(grid):
        if cell.trains and (run := runs.get(replace(cell, prompts=()))) is not None:
            arm = arms.setdefault(replace(cell, seed=ANY_SEED, prompts=()), Arm(cell))
            arm.dice.update({(cell.seed, prompt): dice for prompt, dice in _read(images_file(run)).items()})
    if not arms:
        raise UserError(f"{out} has no cell of {grid} with the Dice of its images: run vlseg evidence first")
    return list(arms.values())


def compare_arms(arms: Sequence[Arm]) -> Iterator[dict[str, Any]]:
    """Yield a row for each arm against the first one on its data, and for each prompt of an arm against its first."""
    for arm in arms:
        base = next(one for one in arms if one.cell.data == arm.cell.data)
        own, *others = arm.cell.prompts
        sides = [((arm, own), (base, base.cell.prompts[0]))] if arm is not base else []
        for a, b in sides + [((arm, own), (arm, other)) for other in others]:
            if (row := _compare(a, b, base.cell)) is not None:
                yield row


def _compare(a: tuple[Arm, str], b: tuple[Arm, str], base: Cell) -> dict[str, Any] | None:
    seeds = sorted(a[0].seeds(a[1]) & b[0].seeds(b[1]))
    if not seeds:
        return None
    mine, its = (arm.mean_of(seeds, prompt) for arm, prompt in (a, b))
    names = sorted(mine.keys() & its.keys())
    middle, low, high = bootstrap([mine[name] for name in names], [its[name] for name in names])
    told = {"data": base.data, "a": _name(a[0].cell, base), "prompt_a": a[1]}
    told |= {"b": _name(b[0].cell, base), "prompt_b": b[1], "seeds": " ".join(map(str, seeds)), "n": len(names)}
    return told | {"difference": round(middle, 5), "low": round(low, 5), "high": round(high, 5)}


def _name(cell: Cell, base: Cell) -> str:
    """Return the method and how a cell differs from the first one."""
    words = [word.removeprefix("options.") for word in cell.set if word not in base.set]
    words += [f"trained on {cell.train_prompt}"] if cell.train_prompt != base.train_prompt else []
    return " ".join([cell.method, *words])


def _runs(out: Path, data: Path | None) -> dict[Cell, Path]:
    """Return the folder of each cell that has the Dice of its images, the newest where there are several."""
    found = {}
    for told in sorted((out / "cells").glob("*.json"), key=lambda path: path.stat().st_mtime):
        job = Job.from_json(json.dumps(json.loads(told.read_text())["job"]))
        older = not images_file(job.run).exists() and (job.run / RUN).is_file() and not job.cell.test_on
        if data is not None and older:
            _ask_again(job, data)
        if images_file(job.run).exists():
            # older cells say None where they have no folder of their own to be judged on
            found[replace(job.cell, prompts=(), test_on=job.cell.test_on or ())] = job.run
    return found


def _ask_again(job: Job, data: Path) -> None:
    for prompt in job.cell.prompts:
        dice = scores(job.run, data / job.cell.data, prompt)
        keep_images(job, prompt, job.cell.data, [{"name": name, "dice": value} for name, value in dice.items()])


def _read(path: Path) -> dict[str, Dice]:
    found: dict[str, Dice] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["prompt"], {})[row["image"]] = float(row["dice"])
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the grid")
    parser.add_argument("--csv", type=Path, required=True, help="file that the rows are appended to")
    parser.add_argument("--data", type=Path, help="folder of data folders, to ask runs again")
    options = parser.parse_args()
    for row in compare_arms(read_arms(options.grid, options.out, options.data)):
        append_row(options.csv, row)
        sys.stderr.write(f"{row}\n")


if __name__ == "__main__":
    main()
