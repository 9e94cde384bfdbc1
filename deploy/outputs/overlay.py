"""What is drawn over a picture: the mask as a veil of colour, with its contour."""

import numpy as np

ACCENT = (190, 255, 60)
HALO = (8, 20, 28)
VEIL = 0.35


def draw_mask(
    image: np.ndarray, mask: np.ndarray, opacity: float = VEIL, colour: tuple[int, int, int] = ACCENT
) -> np.ndarray:
    """Return a picture, uint8 (H, W, 3), with a mask, bool (H, W), drawn over it as a veil and a contour.

    `opacity` (0 to 1) is the veil's; the contour is always opaque, with a dark line outside it, so that it shows on any
    ground.
    """
    width, out = line_width(mask.shape), image.copy()
    out[mask] = np.rint(image[mask] * np.float32(1 - opacity) + np.float32(opacity) * np.asarray(colour, np.float32))
    out[_grown(mask, width) & ~mask] = HALO
    out[mask & ~_shrunk(mask, width)] = colour
    return out


def line_width(shape: tuple[int, ...]) -> int:
    """Return the contour's width in pixels, so that it looks alike on small and large pictures."""
    return max(1, round(min(shape[:2]) / 300))


def _grown(mask: np.ndarray, by: int) -> np.ndarray:
    """Return the mask grown by a square of 2 `by` + 1, as Pillow's rank filter does it, which held up live video."""
    for axis in (0, 1):
        old, mask = np.moveaxis(mask, axis, 0), mask.copy()
        new = np.moveaxis(mask, axis, 0)
        for step in range(1, min(by, len(old) - 1) + 1):
            new[step:] |= old[:-step]
            new[:-step] |= old[step:]
    return mask


def _shrunk(mask: np.ndarray, by: int) -> np.ndarray:
    return ~_grown(~mask, by)
