"""`vlseg evidence`: a grid of trainings, each in a process of its own, each a row; killed, it goes on where it was.

The rows are the ledger: a cell whose rows are there, on the same frozen weights, is not run again.
"""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..deploy.errors import UserError
from ..deploy.files import atomic_write
from .alone import alone
from .evidence_cell import Job, weights_of
from .evidence_grid import Cell, read_grid
from .fit import Say, to_stderr

LOCK, MARKER = "lock", "evidence.json"


@dataclass(frozen=True)
class Outcome:
    """How the cells of a grid ended, by name."""

    done: list[str]
    before: list[str]
    failed: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {"done": self.done, "before": self.before, "failed": self.failed}


def evidence(
    grid: Path | str, data: Path | str, out: Path | str, rows: Path | str | None = None, *, say: Say = to_stderr
) -> dict[str, Any]:
    """Run the cells of a grid file in its order and return the names of those `done`, done `before` and `failed`.

    Each runs in a process of its own with the threads of this one (OMP_NUM_THREADS), and adds its rows to the CSV
    `rows` (OUT/evidence.csv by default) at once. A training that was interrupted goes on at its last whole epoch.
    `data` is the folder where the data folders are. A cell that fails is named and leaves no row; the others run.

    Raises:
        UserError: a wrong grid, a data folder that is not there, an `out` that is not of a grid, or one at work.
    """
    data, out = Path(data), Path(out)
    cells = read_grid(grid)
    _check(cells, data)
    path = Path(rows) if rows else out / "evidence.csv"
    weights_hash, outcome = weights_of(), Outcome([], [], [])
    with grid_folder(out) as lock:
        for i, cell in enumerate(cells):
            job = job_of(cell, data, out, path, weights_hash(cell))
            asked = [(prompt, on) for on in cell.judged_on for prompt in cell.prompts]
            left = [one for one in asked if (job.key, *one) not in written(path)]
            name = job.run.name
            if not left:
                outcome.before.append(name)
                continue
            say(f"cell {i + 1} of {len(cells)}: {name}")
            (outcome.done if _run(job, left, lock) else outcome.failed).append(name)
    return outcome.to_dict()


def job_of(cell: Cell, data: Path, out: Path, rows: Path, weights_hash: str) -> Job:
    """Return a cell with where things are, its run among the `cells` of `out`."""
    run = out / "cells" / cell.name(weights_hash)
    return Job(cell, data.resolve(), run.resolve(), rows.resolve(), weights_hash)


def _run(job: Job, asked: Sequence[tuple[str, str]], lock: IO[str]) -> bool:
    """Run one cell in its own process, which holds the lock too: a grid started anew waits for no orphan's folder."""
    told = job.run.with_suffix(".json")
    atomic_write(told, json.dumps({"job": json.loads(job.to_json()), "asked": list(asked)}).encode())
    words = [sys.executable, "-m", "vlseg.train.evidence_cell", str(told)]
    return subprocess.run(words, pass_fds=[lock.fileno()], check=False).returncode == 0


def written(path: Path) -> set[tuple[str, ...]]:
    """Return which cells have a row in a ledger, each with what it was asked and the name of the folder asked of."""
    if not path.exists():
        return set()
    with open(path, newline="", encoding="utf-8") as file:
        return {tuple(row.get(key, "") for key in ("cell", "prompt", "tested_on")) for row in csv.DictReader(file)}


def _check(cells: Sequence[Cell], data: Path) -> None:
    for cell in cells:
        for name in (*cell.learned, *cell.test_on):
            if not (data / name).is_dir():
                raise UserError(f"there is no data folder {data / name}: put it there, or take it out of the grid")


@contextmanager
def grid_folder(out: Path) -> Iterator[IO[str]]:
    """Hold the folder of a grid, made where there is none, and yield the lock; UserError for one not ours or in use."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / MARKER).is_file())):
        raise UserError(f"{out} exists and is not of a grid: it is left as it is, choose another folder")
    (out / "cells").mkdir(parents=True, exist_ok=True)
    (out / MARKER).write_text("{}")
    with alone(out / LOCK) as lock:
        yield lock
