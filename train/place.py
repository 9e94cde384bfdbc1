"""The folder of a run: `state/` while it trains, `run.json` and its companions, whole, when it is done."""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..deploy.annotations import Sample
from ..deploy.errors import UserError
from ..deploy.files import PARTIAL, atomic_folder, is_leftover, make_folder, read_json, write_json
from .alone import alone, check_free
from .models.runs import RUN, seal_run
from .recipe import Recipe

# what may change between the start of a run and its resume without changing what it computes
FREE = {
    "max_epochs", "max_minutes", "max_steps", "clock", "num_workers", "cache", "cache_bytes", "cache_folder",
    "keep_bytes", "stored",
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """The paths of one run's folder."""

    out: Path

    @property
    def state(self) -> Path:
        """The folder of an unfinished run."""
        return self.out / "state"

    @property
    def session(self) -> Path:
        """What the unfinished run was told; by it the folder is known as ours."""
        return self.state / "session.json"

    @property
    def checkpoint(self) -> Path:
        """The state after the last whole epoch."""
        return self.state / "last.safetensors"

    @property
    def lock(self) -> Path:
        """Held by the process that trains."""
        return self.out / ".training.lock"

    @property
    def metrics(self) -> Path:
        """One row per epoch."""
        return self.out / "metrics.csv"

    @property
    def finished(self) -> bool:
        """Is the run done?"""
        return (self.out / RUN).is_file()

    def check(self) -> None:
        """Refuse a folder that is not a run's, or one in which a run is made now; UserError, and nothing is touched."""
        if self.out.exists() and not self.out.is_dir():
            raise UserError(f"{self.out} is a file: expected a folder for the run, choose another name")
        check_free(self.lock)
        if not self.out.is_dir() or self.finished or self.session.is_file():
            return
        # what a killed process was about to write is no reason
        if not all(path == self.lock or is_leftover(path) for path in self.out.iterdir()):
            raise UserError(f"{self.out} exists and is not a run: it is left as it is, choose another folder")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the folder, made where there is none; UserError where another process does."""
        make_folder(self.out)
        with alone(self.lock):
            yield

    def begin(self, session: dict[str, Any], resume: bool) -> None:
        """Start or go on; UserError where the folder holds the state of a run that was told something else."""
        if self.session.is_file() and resume:
            _compare(read_json(self.session), session, self.out)
            return
        self.discard_state()
        with atomic_folder(self.state, self.session.name) as state:
            write_json(state / self.session.name, session)

    def finish(self, finished: Path) -> None:
        """Move what lies in `finished`, a folder inside the state, into the run, `run.json` last; drop the state.

        `run.json` gets the hashes of its companions.
        """
        companions = {path.name: path for path in finished.iterdir() if path.name != RUN and not is_leftover(path)}
        seal_run(finished, {self.metrics.name: self.metrics, **companions} if self.metrics.is_file() else companions)
        for name in (*companions, RUN):
            os.replace(finished / name, self.out / name)
        self.discard_state()

    def discard_state(self) -> None:
        """Delete the state of an unfinished run, and nothing that is not one.

        It steps aside first, so that a process which is killed meanwhile leaves no state without its session. What
        such processes left goes too.
        """
        if self.session.is_file():
            aside = self.state.with_name(f".{self.state.name}.{secrets.token_hex(4)}{PARTIAL}")
            os.replace(self.state, aside)
        for path in filter(is_leftover, self.out.iterdir() if self.out.is_dir() else ()):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def session_of(recipe: Recipe, splits: dict[str, list[Sample]]) -> dict[str, Any]:
    """Return what a resume must find the same: the recipe, and a hash of the names and sentences of the data."""
    digest = hashlib.sha256()
    for split in ("train", "val"):
        digest.update(json.dumps([[sample.name, sample.prompts] for sample in splits[split]]).encode())
    return {"recipe": recipe.to_dict(), "data": digest.hexdigest()}


def changed(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return the recipe's keys that differ and count; a key that is younger than the run had its default."""
    old = {key: value for key, value in Recipe().to_dict().items() if key in new} | old
    return sorted(key for key in new.keys() | old.keys() if key not in FREE and new.get(key) != old.get(key))


def _compare(old: dict[str, Any], new: dict[str, Any], out: Path) -> None:
    keys = changed(old["recipe"], new["recipe"])
    if keys:
        key = keys[0]
        was, now = old["recipe"].get(key), new["recipe"].get(key)
        raise UserError(f"{out} was started with {key} = {was!r}, not {now!r}: use the same recipe or another folder")
    if old["data"] != new["data"]:
        raise UserError(f"{out} was started on other data: use the same data or another folder")
