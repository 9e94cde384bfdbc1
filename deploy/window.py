"""Which gray values of a deep picture become black and white, as a radiologist's window."""

import re

import numpy as np

from .errors import UserError

Window = tuple[float, float]
_NUMBER = r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*"


def parse_window(text: str) -> Window:
    """Return (low, high) from `LOW,HIGH`, in the picture's own units (Hounsfield units for CT).

    Raises:
        UserError: not two finite numbers, or low not below high.
    """
    found = re.fullmatch(f"{_NUMBER},{_NUMBER}", text)
    low, high = (float(found[1]), float(found[2])) if found else (0.0, 0.0)
    if not np.isfinite([low, high]).all() or low >= high:
        raise UserError(f"window {text!r}: expected LOW,HIGH with LOW below HIGH, such as --window=-160,240")
    return low, high


def apply_window(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return gray values as uint8: `low` and below become 0, `high` and above 255; where both are equal, all 0."""
    if high == low:
        return np.zeros(values.shape, np.uint8)
    return np.rint((np.clip(values, low, high) - low) * (255 / (high - low))).astype(np.uint8)
