"""A measurement is a row of a CSV, with the circumstances under which it was made."""

import csv
import io
import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .errors import UserError
from .facts import cores, cpu_name, installed
from .files import make_folder, writing

CIRCUMSTANCES = ("date", "commit", "cpu", "cores", "threads", "system", "versions")


def append_row(csv_path: Path | str, row: dict[str, Any]) -> None:
    """Append one row with its circumstances; the first row of a file fixes the columns.

    The columns are the row's keys in their order, then `CIRCUMSTANCES`; a key of that name in the row wins (`threads`).
    The line goes out in one write, so that processes may append to one file at the same time.

    Raises:
        UserError: the row's columns are not those of the file, or it cannot be written.
    """
    path = Path(csv_path)
    full = {**row, **{name: value for name, value in circumstances().items() if name not in row}}
    make_folder(path.parent)
    header = _header(path)
    if header and set(header) != set(full):
        lacks, extra = sorted(set(header) - set(full)), sorted(set(full) - set(header))
        raise UserError(f"{path} has other columns (the row lacks {lacks}, adds {extra}): write to another file")
    columns = header or list(full)
    line = ("" if header else _line(columns)) + _line([full[name] for name in columns])
    with writing(path, anything=True), open(path, "ab", buffering=0) as file:
        file.write(line.encode())


def circumstances() -> dict[str, Any]:
    """Return date (UTC), commit (`+` where files differ from it), cpu, cores, threads, system and versions.

    `threads` is OMP_NUM_THREADS where it is set, else the cores this process may use.
    """
    versions = {"python": platform.python_version(), **installed()}
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": commit(),
        "cpu": cpu_name(),
        "cores": cores(),
        "threads": os.environ.get("OMP_NUM_THREADS") or cores(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "versions": " ".join(f"{name}={version}" for name, version in versions.items()),
    }


def commit() -> str:
    """Return the short hash of this package's own checkout, with `+` if files differ from it; empty outside of git."""
    root = Path(__file__).resolve().parent.parent
    top = _git(root, "rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != root:
        return ""
    head = _git(root, "rev-parse", "--short=12", "HEAD")
    return head + ("+" if head and _git(root, "status", "--porcelain") else "")


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _header(path: Path) -> list[str]:
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return next(csv.reader(file), [])


def _line(cells: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
