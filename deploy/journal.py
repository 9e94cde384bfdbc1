"""What a folder of results already holds, so that an interrupted run goes on where it stopped.

One JSON object a line, with a checksum: first the settings, then each file that is done. No prompt stands in it, only a
hash, and no pixel. A line that was cut off or has changed counts as never written.
"""

import hashlib
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import UserError
from .files import atomic_write, make_folder

NAME = ".vlseg-segment.jsonl"
SUM = "crc32"


class Journal:
    """The journal of one folder; use it in one process at a time."""

    def __init__(self, folder: Path, settings: dict[str, Any], overwrite: bool = False):
        """Read the journal of `folder`; without one, or to `overwrite` it, one begins with the first file.

        Raises:
            UserError: the folder's results were made with other settings.
        """
        self._path, self.overwrite = folder / NAME, overwrite
        self._begun: set[str] = set()
        self._done: dict[str, dict[str, Any]] = {}
        self._head = _line({"settings": settings, "overwrite": overwrite})
        if overwrite or not self._path.exists():
            return
        head, *rest = self._lines() or [{}]
        if differ := [name for name in settings if head.get("settings", {}).get(name) != settings[name]]:
            raise UserError(
                f"{folder} holds results of another {' and '.join(differ)}: choose another --out, or pass --overwrite"
            )
        self._head, self.overwrite = "", bool(head.get("overwrite"))
        self._begun = {entry["source"] for entry in rest}
        self._done = {entry["source"]: entry for entry in rest if "files" in entry}

    def done(self, source: Path) -> dict[str, Any] | None:
        """Return `{files, areas, notes}` of a file; None where it is new or changed, or its results are gone."""
        entry = self._done.get(_key(source))
        if entry is None or entry["stamp"] != _stamp(source):
            return None
        there = all((self._path.parent / name).is_file() for name in entry["files"])
        return entry if there else None

    def may_replace(self, source: Path) -> bool:
        """May results of this file be replaced: by the user's word, or because they are ours, perhaps half done?"""
        return self.overwrite or _key(source) in self._begun

    def begin(self, source: Path) -> None:
        """Note that results of a file are about to be written.

        Raises:
            UserError: the folder cannot be written, or the disk is full.
        """
        self._begun.add(_key(source))
        self._append({"source": _key(source)})

    def note(self, source: Path, files: Sequence[Path], areas: list[dict[str, Any]], notes: Sequence[str]) -> None:
        """Note a file as done, with the results that were written of it; raises as `begin`."""
        names = [path.relative_to(self._path.parent).as_posix() for path in files]
        done = {"files": names, "areas": areas, "notes": list(notes)}
        self._append({"source": _key(source), "stamp": _stamp(source), **done})

    def _append(self, entry: dict[str, Any]) -> None:
        if self._head:
            make_folder(self._path.parent)
            atomic_write(self._path, self._head)
            self._head = ""
        try:
            with open(self._path, "ab", buffering=0) as file:
                file.write(_line(entry).encode())
        except OSError as error:
            raise UserError(f"cannot write {self._path}: {error.strerror}; choose another --out") from error

    def _lines(self) -> list[dict[str, Any]]:
        """Return the lines that are whole, and leave no others, so that the next line is a line of its own."""
        text = self._path.read_bytes()
        entries = [entry for line in text.splitlines() if (entry := _entry(line)) is not None]
        if text != (whole := "".join(map(_line, entries)).encode()):
            atomic_write(self._path, whole)
        return entries


def digest(*texts: str) -> str:
    """Return a hash of texts that does not show them."""
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def _key(source: Path) -> str:
    """Return what a file is known by: its place, so that the same name from elsewhere is another; not shown."""
    return digest(str(source.resolve()))


def _stamp(source: Path) -> list[int]:
    """Return size and time of the last change; another file of the same name differs in one."""
    status = source.stat()
    return [status.st_size, status.st_mtime_ns]


def _line(value: dict[str, Any]) -> str:
    return json.dumps({**value, SUM: _sum(value)}) + "\n"


def _entry(line: bytes) -> dict[str, Any] | None:
    """Return what a line says, or None where it is not as it was written."""
    try:
        value = json.loads(line)
        found = value.pop(SUM)
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError):
        return None
    return value if found == _sum(value) else None


def _sum(value: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(value).encode())
