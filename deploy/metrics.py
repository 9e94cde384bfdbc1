"""How a predicted mask is judged: Dice, IoU and HD95 of two bool masks (H, W), in numpy.

scipy is needed by HD95 alone (`pip install "vlseg[score]"`).
"""

import importlib.util
import math

import numpy as np

from .errors import UserError


def dice(pred: np.ndarray, true: np.ndarray) -> float:
    """Return 2 |A and B| / (|A| + |B|), 0..1; both empty is full agreement, 1."""
    _check(pred, true)
    total = int(pred.sum()) + int(true.sum())
    return 2 * int((pred & true).sum()) / total if total else 1.0


def iou(pred: np.ndarray, true: np.ndarray) -> float:
    """Return |A and B| / |A or B|, 0..1; both empty is full agreement, 1."""
    _check(pred, true)
    union = int((pred | true).sum())
    return int((pred & true).sum()) / union if union else 1.0


def hd95(pred: np.ndarray, true: np.ndarray) -> float:
    """Return the symmetric 95th-percentile Hausdorff distance of the two outlines, in pixels.

    The larger of the two directed 95th percentiles (linear interpolation), as monai's
    `compute_hausdorff_distance(percentile=95)`; an outline is the mask minus its erosion by the four neighbours,
    and what lies beyond the image counts as outside. Both empty: 0. Exactly one empty: the image's diagonal.

    Raises:
        UserError: scipy is not installed.
    """
    _check(pred, true)
    if one_empty(pred, true):
        return diagonal(pred.shape)
    if not pred.any():
        return 0.0
    require_scipy()
    from scipy.spatial import KDTree

    a, b = _outline(pred), _outline(true)
    there, back = KDTree(b).query(a)[0], KDTree(a).query(b)[0]
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


def one_empty(pred: np.ndarray, true: np.ndarray) -> bool:
    """Is exactly one of the masks empty? HD95 is then the diagonal by convention, and such images are counted."""
    return bool(pred.any()) != bool(true.any())


def diagonal(shape: tuple[int, ...]) -> float:
    """Return the length of an image's diagonal in pixels, sqrt(H^2 + W^2)."""
    return math.hypot(*shape)


def require_scipy() -> None:
    """Say now, not after the last image, that HD95 cannot be had.

    Raises:
        UserError: scipy is not installed.
    """
    if importlib.util.find_spec("scipy") is None:
        raise UserError('HD95 needs scipy, which is not installed: pip install "vlseg[score]", or leave HD95 out')


def _outline(mask: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_erosion

    return np.argwhere(mask & ~binary_erosion(mask))


def _check(pred: np.ndarray, true: np.ndarray) -> None:
    if pred.dtype != bool or true.dtype != bool or pred.ndim != 2 or pred.shape != true.shape:
        raise ValueError(
            f"masks are {pred.dtype} {pred.shape} and {true.dtype} {true.shape}, expected two bool masks of one (H, W)"
        )
