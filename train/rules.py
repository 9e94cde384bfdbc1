"""What can be had without learning: Otsu's threshold and the mean mask. They never look at the sentence."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from ..deploy.annotations import Sample, read_pair
from ..deploy.pixels import to_mask
from .threshold import choose_threshold

PRIOR_SIDE = 256  # pixels
Splits = dict[str, list[Sample]]


class ImageOnly:
    """A segmenter by the picture alone: `field` gives float (H, W) in 0..1 for uint8 (H, W, 3)."""

    def __init__(self, field: Callable[[np.ndarray], np.ndarray], engine: str) -> None:
        self._field, self.engine = field, engine

    def probability(self, image: np.ndarray, prompt: str) -> np.ndarray:
        """Return float (H, W), 0..1."""
        return self._field(image)

    def segment(self, image: np.ndarray, prompt: str, threshold: float) -> np.ndarray:
        """Return bool (H, W)."""
        return to_mask(self._field(image), threshold)


def otsu_level(gray: np.ndarray) -> int:
    """Return the level t of uint8 values that parts those <= t from those > t with the greatest variance between.

    Otsu, IEEE Transactions on Systems, Man, and Cybernetics 9 (1979), equation 18. One value only: that value.
    """
    counts = np.bincount(gray.ravel(), minlength=256).astype(np.float64)
    below, total = np.cumsum(counts), counts.sum()
    mass = np.cumsum(counts * np.arange(256))
    weight = below * (total - below)
    between = np.divide((mass[-1] * below - mass * total) ** 2, weight, out=np.zeros(256), where=weight > 0)
    return int(between.argmax()) if between.any() else int(gray.flat[0])


def fit_otsu(splits: Splits) -> ImageOnly:
    """Return Otsu's threshold on gray, for the brighter or the darker side as validation likes better."""
    sides = [ImageOnly(_otsu_field(bright), "numpy") for bright in (False, True)]
    return max(sides, key=lambda side: choose_threshold(side.probability, splits["val"], "p0")[1])


def _otsu_field(bright: bool) -> Callable[[np.ndarray], np.ndarray]:
    def field(image: np.ndarray) -> np.ndarray:
        gray = np.asarray(Image.fromarray(image).convert("L"))
        above = gray > otsu_level(gray)
        return (above if bright else ~above).astype(np.float32)

    return field


def fit_mean_mask(splits: Splits) -> ImageOnly:
    """Return the mean of the training masks as the answer to every image: what place alone tells."""
    total = np.zeros((PRIOR_SIDE, PRIOR_SIDE), np.float32)
    for sample in splits["train"]:
        mask = Image.fromarray(read_pair(sample)[1]).resize((PRIOR_SIDE, PRIOR_SIDE), Image.Resampling.NEAREST)
        total += np.asarray(mask)
    prior = Image.fromarray(total / len(splits["train"]))

    def field(image: np.ndarray) -> np.ndarray:
        return np.asarray(prior.resize((image.shape[1], image.shape[0]), Image.Resampling.BILINEAR))

    return ImageOnly(field, "numpy")
