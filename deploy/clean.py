"""What may be done to a mask afterwards: keep its largest component, fill its holes. Off unless asked for."""

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from .errors import UserError


@dataclass(frozen=True)
class Clean:
    """Which cleaning a mask gets, in this order.

    Attributes:
        largest: only the largest component stays; pixels that touch by a side or a corner belong together.
        holes: what the mask encloses on every side becomes part of it.
    """

    largest: bool = False
    holes: bool = False

    def __call__(self, mask: np.ndarray) -> np.ndarray:
        """Return the cleaned mask, bool (H, W); without an option, the mask itself.

        Raises:
            UserError: scipy is not installed where an option needs it.
        """
        if self.largest:
            mask = largest_component(mask)
        return fill_holes(mask) if self.holes else mask


KEEP = Clean()


def largest_component(mask: np.ndarray) -> np.ndarray:
    """Return the component with the most pixels, bool (H, W), the first in reading order among equals.

    Pixels that touch by a side or a corner belong together, so that a thin diagonal object stays whole.
    """
    labels, count = _ndimage().label(mask, np.ones((3, 3)))
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == sizes.argmax()


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """Return the mask, bool (H, W), with every hole filled that no side-by-side path leads out of."""
    return _ndimage().binary_fill_holes(mask)


def _ndimage() -> ModuleType:
    try:
        from scipy import ndimage
    except ModuleNotFoundError as error:
        raise UserError('cleaning a mask needs scipy, which is not installed: pip install "vlseg[score]"') from error
    return ndimage
