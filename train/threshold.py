"""The threshold of a model, chosen on validation images."""

from collections.abc import Callable, Sequence

import numpy as np

from ..deploy import metrics
from ..deploy.annotations import Sample, choose_prompt, read_pair
from ..deploy.pixels import to_mask

GRID = tuple(round(0.1 + 0.05 * i, 2) for i in range(17))


def choose_threshold(
    probability: Callable[[np.ndarray, str], np.ndarray], samples: Sequence[Sample], prompt: str
) -> tuple[float, float]:
    """Return the threshold of `GRID` with the best mean Dice at original resolution, and that Dice.

    `probability` gives float (H, W) for an image and a sentence. Of equal ones, the nearest to 0.5 wins.
    """
    scores = np.zeros(len(GRID))
    for sample in samples:
        image, true = read_pair(sample)
        field = probability(image, choose_prompt(sample, prompt))
        scores += [metrics.dice(to_mask(field, level), true) for level in GRID]
    best = max(range(len(GRID)), key=lambda i: (scores[i], -abs(GRID[i] - 0.5)))
    return GRID[best], float(scores[best] / len(samples))
