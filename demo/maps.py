"""Maps in colour: probability, agreement with a true mask, and a quantity of each token laid over the picture."""

import numpy as np
from PIL import Image

from ..deploy.outputs.overlay import ACCENT

# dark to bright at an even pace of lightness, and told apart by those who see few colours: blue, violet, orange, yellow
_STOPS = ((8, 12, 44), (72, 18, 112), (168, 46, 96), (236, 112, 48), (252, 190, 60), (252, 252, 190))
HIT, MISSED, EXTRA = ACCENT, (255, 140, 40), (235, 60, 130)


def colours(values: np.ndarray) -> np.ndarray:
    """Return uint8 (H, W, 3) of values 0..1, float (H, W)."""
    table = np.stack([np.interp(np.linspace(0, 5, 256), range(6), channel) for channel in zip(*_STOPS, strict=True)], 1)
    return np.rint(table).astype(np.uint8)[np.clip(values * 255 + 0.5, 0, 255).astype(np.uint8)]


def heat(image: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Return the probability, float (H, W), in colour, the picture's own light faintly beneath it."""
    gray = image.mean(axis=2, dtype=np.float32)[..., None]
    return np.rint(0.82 * colours(probability).astype(np.float32) + 0.18 * gray).astype(np.uint8)


def errors(image: np.ndarray, mask: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the picture in gray with what was hit, missed and marked beyond the truth, bool (H, W) both, in colour."""
    out = np.repeat(image.mean(axis=2, keepdims=True).astype(np.float32) * 0.6, 3, axis=2)
    for where, colour in ((mask & true, HIT), (true & ~mask, MISSED), (mask & ~true, EXTRA)):
        out[where] = 0.3 * out[where] + 0.7 * np.asarray(colour, np.float32)
    return np.rint(out).astype(np.uint8)


def tokens(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return values of patches, float (g, g), from the least to the largest in colour over the picture.

    The model squeezes every picture into a square, so that patches of a wide picture are wide.
    """
    height, width = image.shape[:2]
    low, high = float(values.min()), float(values.max())
    scaled = ((values - low) / ((high - low) or 1.0)).astype(np.float32)
    return heat(image, np.asarray(Image.fromarray(scaled).resize((width, height), Image.Resampling.NEAREST)))
