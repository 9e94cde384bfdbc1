"""COCO's run-length encoding of a mask, compressed: columns first, runs in six-bit characters."""

import operator
from typing import Any

import numpy as np

from ..errors import UserError

LONGEST = 60  # bits of a run; more would be a number that grows with every character


def to_rle(mask: np.ndarray) -> dict[str, Any]:
    """Return `{size: [H, W], counts: text}` of a mask, bool (H, W), as pycocotools writes and reads it.

    Source: the format of Lin et al., Microsoft COCO (arXiv 1405.0312), of the COCO API: runs of 0 and 1 in turn,
    beginning with 0; from the third on, a run is the difference to the one before the last; five bits a character.
    """
    flat = np.asarray(mask, bool).T.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]]))
    if flat[0]:
        runs = np.concatenate([[0], runs])
    values = runs.copy()
    values[3:] -= runs[1:-2]
    return {"size": [int(mask.shape[0]), int(mask.shape[1])], "counts": "".join(map(_characters, values.tolist()))}


def from_rle(rle: dict[str, Any]) -> np.ndarray:
    """Return the mask, bool (H, W), of a compressed encoding.

    Raises:
        UserError: no size and counts as text, or the runs do not add up to the size.
    """
    try:
        height, width = (operator.index(side) for side in rle["size"])
        runs: list[int] = []
        for value in _numbers(rle["counts"]):
            runs.append(value + runs[-2] if len(runs) > 2 else value)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"an RLE is not size and counts ({error}), expected COCO's compressed form: it is damaged"
        ) from error
    if min(height, width) < 0 or sum(runs) != height * width or min(runs, default=0) < 0:
        raise UserError(f"the runs of an RLE add up to {sum(runs)}, expected {height} x {width} pixels: it is damaged")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(width, height).T


def bounding_box(mask: np.ndarray) -> list[int]:
    """Return [left, top, width, height] in pixels of a mask, bool (H, W); zeros where it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return [0, 0, 0, 0]
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]


def _characters(value: int) -> str:
    """Return a signed number, lowest five bits first, a sixth bit where more follow."""
    text = ""
    while True:
        bits = value & 31
        value >>= 5
        more = value != (-1 if bits & 16 else 0)
        text += chr(48 + bits + 32 * more)
        if not more:
            return text


def _numbers(text: str) -> list[int]:
    numbers, value, shift = [], 0, 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if shift > LONGEST:
            raise ValueError("a run is too long")
        if not bits & 32:
            numbers.append(value - (1 << shift) if bits & 16 else value)
            value = shift = 0
    return numbers
