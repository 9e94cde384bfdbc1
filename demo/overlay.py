"""What is drawn over a picture: the mask as a veil of colour, and its contour. Also what the mask measures."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from ..deploy.pixels import to_mask

ACCENT = (190, 255, 60)
HALO = (8, 20, 28)


@dataclass(frozen=True)
class Area:
    """How much of a picture a mask covers, in pixels and as a share (0 to 1)."""

    pixels: int
    share: float


def measure(mask: np.ndarray) -> Area:
    """Return the area of a mask, bool (H, W)."""
    return Area(int(mask.sum()), float(mask.mean()))


def overlay(
    image: np.ndarray,
    probability: np.ndarray,
    threshold: float,
    opacity: float,
    colour: tuple[int, int, int] = ACCENT,
) -> np.ndarray:
    """Return the picture, uint8 (H, W, 3), with a veil where `probability` (H, W) is above `threshold`, and a contour.

    `opacity` (0 to 1) is the veil's; the contour is always opaque, with a dark line outside it, so that it shows on any
    ground.
    """
    return draw_mask(image, to_mask(probability, threshold), opacity, colour)


def draw_mask(image: np.ndarray, mask: np.ndarray, opacity: float, colour: tuple[int, int, int] = ACCENT) -> np.ndarray:
    """Return the picture, uint8 (H, W, 3), with a mask, bool (H, W), drawn over it as `overlay` says."""
    width = line_width(mask.shape)
    veil = np.where(mask, np.float32(opacity), np.float32(0))[..., None]
    out = np.rint(image + veil * (np.asarray(colour, np.float32) - image)).astype(np.uint8)
    out[_grown(mask, width) & ~mask] = HALO
    out[mask & ~_shrunk(mask, width)] = colour
    return out


def line_width(shape: tuple[int, ...]) -> int:
    """Return the contour's width in pixels, so that it looks alike on small and large pictures."""
    return max(1, round(min(shape[:2]) / 300))


def _grown(mask: np.ndarray, by: int) -> np.ndarray:
    return _filtered(mask, ImageFilter.MaxFilter(2 * by + 1))


def _shrunk(mask: np.ndarray, by: int) -> np.ndarray:
    return _filtered(mask, ImageFilter.MinFilter(2 * by + 1))


def _filtered(mask: np.ndarray, kind: ImageFilter.Filter) -> np.ndarray:
    return np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).filter(kind)) > 0
