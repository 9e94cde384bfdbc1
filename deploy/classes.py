"""Several prompts about one picture as one map, in which every pixel belongs to one class or to the background."""

from collections.abc import Sequence

import numpy as np

from .clean import KEEP, Clean
from .errors import UserError


def class_map(probabilities: Sequence[np.ndarray], threshold: float, clean: Clean = KEEP) -> np.ndarray:
    """Return a class map, uint8 (H, W), from the probabilities of each class, float32 (H, W).

    0 is background, where no probability is above `threshold`; i + 1 is the class of the highest, the first among
    equals. Each class is cleaned alone: what it loses becomes background, what it gains takes background only.

    Raises:
        UserError: more than 255 classes, or scipy absent where `clean` needs it.
    """
    if len(probabilities) > 255:
        raise UserError(f"{len(probabilities)} prompts, expected at most 255 in one class map")
    if len(probabilities) == 1:
        return clean(probabilities[0] > threshold).view(np.uint8)
    probability = np.stack(probabilities)
    best = probability.argmax(axis=0).astype(np.uint8)
    above = np.take_along_axis(probability, best[None].astype(np.intp), axis=0)[0] > threshold
    labels = np.where(above, best + np.uint8(1), np.uint8(0))
    if clean == KEEP:
        return labels
    kept = [clean(labels == i + 1) for i in range(len(probability))]
    cleaned = np.zeros_like(labels)
    for i, mask in enumerate(kept, start=1):
        cleaned[mask & (labels == i)] = i
    for i, mask in enumerate(kept, start=1):
        cleaned[mask & (cleaned == 0) & (labels == 0)] = i
    return cleaned
