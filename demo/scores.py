"""How well a mask agrees with the true one: Dice, IoU and HD95, for a card."""

import importlib.util

import numpy as np

from ..deploy.metrics import dice, hd95, iou, one_empty


def scores(mask: np.ndarray, true: np.ndarray) -> dict[str, str]:
    """Return the scores of a mask, both bool (H, W), as text by name; HD95 in pixels, where scipy is installed."""
    told = {"Dice": f"{dice(mask, true):.3f}", "IoU": f"{iou(mask, true):.3f}"}
    if importlib.util.find_spec("scipy") is None:
        return told | {"HD95": "needs scipy"}
    return told | {"HD95": "one mask is empty" if one_empty(mask, true) else f"{hd95(mask, true):.1f} px"}
