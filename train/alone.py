"""One process at a time: a lock file that the system frees with the process that holds it, however that ends."""

import fcntl
import json
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

from ..deploy.errors import UserError
from ..deploy.files import writing


@contextmanager
def alone(path: Path) -> Iterator[IO[str]]:
    """Hold the lock file `path`, whose folder is there, and yield it open; at the end it is deleted.

    It tells who holds it. A file that a killed process left is held by nobody, and taken over. A process that inherits
    the open file holds it too.

    Raises:
        UserError: another process holds it, or it cannot be written.
    """
    with ExitStack() as closing:
        with writing(path, anything=True):
            lock = closing.enter_context(_taken(path))
            closing.callback(path.unlink, missing_ok=True)
            since = datetime.now().isoformat(" ", "minutes")
            holder = {"pid": os.getpid(), "machine": platform.node(), "since": since}
            lock.truncate(0)
            os.write(lock.fileno(), json.dumps(holder).encode())
        yield lock


def check_free(path: Path) -> None:
    """Raise UserError where a process holds the lock file `path`: to ask before long work, for nothing is written."""
    if path.is_file():
        with open(path, encoding="utf-8") as lock:
            _hold(lock, fcntl.LOCK_SH, path)


def _taken(path: Path) -> IO[str]:
    """Return the lock file, open and held."""
    while True:
        with ExitStack() as closing:
            lock = closing.enter_context(open(path, "a+", encoding="utf-8"))
            _hold(lock, fcntl.LOCK_EX, path)
            # whoever held it may have deleted it between the two lines above: a new one is at its place, or will be
            if path.exists() and os.path.samestat(os.fstat(lock.fileno()), os.stat(path)):
                closing.pop_all()
                return lock


def _hold(lock: IO[str], how: int, path: Path) -> None:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"{path.parent} is in use by {_holder(lock)}: wait for its end, or choose another folder"
        ) from None


def _holder(lock: IO[str]) -> str:
    """Return who wrote a lock file; it may have been opened just before that."""
    try:
        lock.seek(0)
        told = json.load(lock)
        return f"process {told['pid']} on {told['machine']} since {told['since']}, or one that it started"
    except (ValueError, KeyError, TypeError):
        return "another process"
