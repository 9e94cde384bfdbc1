"""The wire format of an ONNX file, read as far as it takes to see whether its weights lie in other files.

A bundle's hashes are those of its own files. Weights kept elsewhere could be changed unseen, or be no weights of the
bundle at all, so such a file is refused. No library for it is on a device, and older engines do not look.
Source: onnx.proto of ONNX, and the encoding of protocol buffers.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

from .errors import EngineError

EXTERNAL_DATA, LOCATION = 13, 14
"""Fields of a tensor that say that it lies elsewhere."""
_INNER: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_FIXED = {1: 8, 5: 4}
DEEPEST = 40


def check_own_weights(path: Path) -> None:
    """Refuse an ONNX file whose weights lie in other files.

    Raises:
        EngineError: it does, it is no ONNX file, or it cannot be read.
    """
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            elsewhere = _elsewhere(data, 0, len(data), "model", 0)
    except (OSError, ValueError, IndexError) as error:
        raise EngineError(f"cannot open {path}: it is no ONNX file ({error}); export the bundle again") from error
    if elsewhere:
        raise EngineError(
            f"{path} keeps weights in other files, which no hash of the bundle vouches for: do not use it"
        )


def _elsewhere(data: mmap.mmap, at: int, end: int, kind: str, depth: int) -> bool:
    if depth > DEEPEST:
        raise ValueError(f"graphs nested more than {DEEPEST} deep")
    inner = _INNER[kind]
    for number, start, stop in _fields(data, at, end):
        if kind == "tensor" and number in (EXTERNAL_DATA, LOCATION) and not _is_zero(data, start, stop):
            return True
        if number in inner and _elsewhere(data, start, stop, inner[number], depth + 1):
            return True
    return False


def _is_zero(data: mmap.mmap, start: int, stop: int) -> bool:
    """Is this the default of `data_location`, a number of 0?"""
    return stop > start and not any(byte & 127 for byte in data[start:stop]) and stop - start <= 10


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the number of each field of a message, and where its content begins and ends."""
    while at < end:
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            stop = _varint(data, at)[1]
        elif kind == 2:
            length, at = _varint(data, at)
            stop = at + length
        elif kind in _FIXED:
            stop = at + _FIXED[kind]
        else:
            raise ValueError(f"a field of wire type {kind}")
        if stop > end:
            raise ValueError("it is cut off")
        yield key >> 3, at, stop
        at = stop


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number is too long")
