"""How much of a picture a mask covers."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Area:
    """The area of a mask.

    Attributes:
        pixels: how many.
        share: of the picture, 0 to 1.
        mm2: square millimetres, or None where the spacing is not known.
    """

    pixels: int
    share: float
    mm2: float | None = None


def measure_area(mask: np.ndarray, spacing: tuple[float, float] | None = None) -> Area:
    """Return the area of a mask, bool (H, W), `spacing` being the millimetres per row and per column."""
    pixels = int(np.count_nonzero(mask))
    return Area(pixels, pixels / mask.size, None if spacing is None else pixels * spacing[0] * spacing[1])
