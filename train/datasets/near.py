"""Near-duplicate images, found by a perceptual hash: which pixels are brighter than their left neighbours."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

SIDE = 16
BITS = SIDE * SIDE
NEAR = 24
"""Bits of 256 by which two pictures of one scene differ at most."""


def perceptual_hash(image: np.ndarray) -> np.ndarray:
    """Return the difference hash of an image, uint8 RGB (H, W, 3), as bool (256,).

    Resizing, recompression and changes of light hardly change it; a crop, a turn or a flip does.
    """
    grey = Image.fromarray(image).convert("L").resize((SIDE + 1, SIDE), Image.Resampling.BOX)
    values = np.asarray(grey).astype(np.int16)
    return (values[:, 1:] > values[:, :-1]).ravel()


def near_pairs(hashes: np.ndarray, groups: Sequence[str], most: int = NEAR) -> list[tuple[int, int, int]]:
    """Return (i, j, bits that differ) of rows of bool (N, 256) of different groups that differ in at most `most` bits.

    The nearest come first. A hash of a flat picture, all False, is like no other.
    """
    signs = np.where(hashes, 1.0, -1.0).astype(np.float32)
    names = np.asarray(groups)
    full = np.asarray(hashes.any(axis=1))
    pairs = []
    for start in range(0, len(signs), 1024):
        block = slice(start, start + 1024)
        distance = (BITS - signs[block] @ signs.T) / 2
        close = (distance <= most) & np.not_equal.outer(names[block], names) & np.logical_and.outer(full[block], full)
        for row, j in zip(*np.nonzero(close), strict=True):
            if start + row < j:
                pairs.append((int(start + row), int(j), int(distance[row, j])))
    return sorted(pairs, key=lambda pair: pair[::-1])
