"""A picture far larger than the model's input, asked tile by tile, the answers blended where tiles overlap."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .errors import UserError

Ask = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Grid:
    """Where tiles lie: every top with every left, each (height, width) pixels large."""

    tops: list[int]
    lefts: list[int]
    height: int
    width: int

    def __iter__(self) -> Iterator[tuple[slice, slice]]:
        """Yield the rows and columns of each tile, in reading order."""
        for top in self.tops:
            for left in self.lefts:
                yield slice(top, top + self.height), slice(left, left + self.width)

    def __len__(self) -> int:
        """Return how many tiles there are."""
        return len(self.tops) * len(self.lefts)


def lay(shape: tuple[int, int], side: int, overlap: float) -> Grid:
    """Return a grid of square tiles over a picture of `shape` (H, W), clipped where the picture is smaller than one.

    Neighbours share at least `overlap` (0 to 0.9) of their side; the tiles are spread evenly, so that the last ends at
    the border and none is cut.

    Raises:
        UserError: a side below 1 or an overlap outside of 0 to 0.9.
    """
    if side < 1 or not 0 <= overlap <= 0.9:
        raise UserError(f"tiles of {side} pixels with overlap {overlap:g}: expected a side from 1, overlap 0 to 0.9")
    height, width = (min(side, length) for length in shape)
    return Grid(_starts(shape[0], height, overlap), _starts(shape[1], width, overlap), height, width)


def blend(image: np.ndarray, grid: Grid, ask: Ask, batch: int = 1, progress: Progress | None = None) -> np.ndarray:
    """Return probability, float32 (H, W), of a picture, uint8 (H, W, 3), from what `ask` says of its tiles.

    `ask` takes at most `batch` tiles and returns the probability of each, (height, width). Where tiles overlap, each
    counts by a raised cosine that falls towards its border, where a model sees least of the surroundings. Only one
    array of the picture's size is held.
    """
    total = np.zeros(image.shape[:2], np.float32)
    weight_y, weight_x = _window(grid.height), _window(grid.width)
    window, places = np.outer(weight_y, weight_x), list(grid)
    for start in range(0, len(places), batch):
        some = places[start : start + batch]
        for place, answer in zip(some, ask([image[place] for place in some]), strict=True):
            total[place] += answer * window
        if progress:
            progress(min(start + batch, len(places)), len(places))
    total /= _sum(weight_y, grid.tops, image.shape[0])[:, None]
    total /= _sum(weight_x, grid.lefts, image.shape[1])
    # Rounding may carry a sure pixel past 1 by its last bit.
    return np.clip(total, 0, 1, out=total)


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    step = max(1, int(tile * (1 - overlap)))
    count = 1 + -(-(length - tile) // step)
    return [round(i * (length - tile) / max(1, count - 1)) for i in range(count)]


def _window(length: int) -> np.ndarray:
    """Return a raised cosine, float32 (length,), above 0 everywhere."""
    return np.sin(np.pi * (np.arange(length) + 0.5) / length).astype(np.float32) ** 2 + np.float32(1e-3)


def _sum(weight: np.ndarray, starts: list[int], length: int) -> np.ndarray:
    """Return the sum of the weights of all tiles along one side; the window being a product, sides come apart."""
    total = np.zeros(length, np.float32)
    for start in starts:
        total[start : start + len(weight)] += weight
    return total
