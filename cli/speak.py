"""What commands say: results on stdout, everything else on stderr."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..deploy.errors import UserError


def say(text: str) -> None:
    """Print to stderr."""
    print(text, file=sys.stderr, flush=True)


def progress(what: str):
    """Return a callback (done, total) that keeps one line on a terminal, and writes at most ten into a pipe."""

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{what} {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif done * 10 // total > (done - 1) * 10 // total:
            say(f"{what} {done}/{total}")

    return show


def show(value: Any, as_json: bool, text: str) -> None:
    """Print a result: the value as JSON, or the text."""
    print(json.dumps(value, indent=2, default=str) if as_json else text)


def table(rows: list[dict[str, Any]], *columns: str) -> str:
    """Lay rows out in aligned columns under their names."""
    cells = [list(columns)] + [[_cell(row[column]) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}" if isinstance(value, float) else str(value)


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn a ValueError of `kernels`, which knows no other room, into bad input."""
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from error
