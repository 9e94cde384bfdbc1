"""What is drawn over a picture at a threshold; how a mask looks is written in `deploy.outputs.overlay`."""

import numpy as np

from ..deploy.outputs.overlay import ACCENT, HALO, VEIL, draw_mask
from ..deploy.pixels import to_mask

__all__ = ("ACCENT", "HALO", "VEIL", "draw_mask", "overlay")


def overlay(image: np.ndarray, probability: np.ndarray, threshold: float, opacity: float = VEIL) -> np.ndarray:
    """Return the picture, uint8 (H, W, 3), with the mask of a probability (H, W) at a threshold drawn over it."""
    return draw_mask(image, to_mask(probability, threshold), opacity)
