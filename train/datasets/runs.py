"""Run-length masks as COCO writes them: columns first, background first, plain or as compressed text."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...deploy.errors import UserError

MOST = 2**28
LONGEST = 30  # bits of a run; more would be a number that grows with every character


def decode_runs(coded: Mapping[str, Any], where: str) -> np.ndarray:
    """Return the mask, bool (H, W), of `{"size": [H, W], "counts": ...}`; `where` names it in a UserError."""
    try:
        height, width = (int(side) for side in coded["size"])
        counts = coded["counts"]
        runs = _numbers(counts) if isinstance(counts, str | bytes) else [int(run) for run in counts]
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{where} is not a run-length mask of size and counts: correct the annotation") from error
    if min(height, width) < 1 or height * width > MOST or min(runs, default=0) < 0 or sum(runs) != height * width:
        raise UserError(f"{where} has runs that do not fill its {width}x{height} pixels: correct the annotation")
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.ascontiguousarray(values.reshape(width, height).T)


def _numbers(text: str | bytes) -> Sequence[int]:
    """Return the runs: five bits a character, low ones first, signed; from the third on, the change to two before."""
    codes = list(text.encode() if isinstance(text, str) else text)
    runs: list[int] = []
    value, shift = 0, 0
    for code in codes:
        bits = code - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            if shift > LONGEST:
                raise ValueError("a run is too long")
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, shift = 0, 0
    return runs
