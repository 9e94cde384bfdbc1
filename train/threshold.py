"""The threshold of a model, chosen on validation images."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..deploy import metrics
from ..deploy.annotations import Sample, choose_prompt, read_pair
from ..deploy.pixels import to_mask

Probability = Callable[[np.ndarray, str], np.ndarray]
GRID = tuple(round(0.1 + 0.05 * i, 2) for i in range(17))


def choose_threshold(probability: Probability, samples: Sequence[Sample], prompt: str) -> tuple[float, float]:
    """Return the threshold of `GRID` with the best mean Dice at original resolution, and that Dice.

    `probability` gives float (H, W) for an image and a sentence. Of equal ones, the nearest to 0.5 wins.
    """
    level, scores = choose_for_all(probability, {"": samples}, prompt)
    return level, scores[""]


def choose_for_all(
    probability: Probability, sets: Mapping[str, Sequence[Sample]], prompt: str
) -> tuple[float, dict[str, float]]:
    """Return the threshold with the best mean over the sets of their mean Dice, and the Dice of each; see above."""
    scores = {name: _scores(probability, samples, prompt) for name, samples in sets.items()}
    together = np.mean(list(scores.values()), axis=0)
    best = max(range(len(GRID)), key=lambda i: (together[i], -abs(GRID[i] - 0.5)))
    return GRID[best], {name: float(own[best]) for name, own in scores.items()}


def _scores(probability: Probability, samples: Sequence[Sample], prompt: str) -> np.ndarray:
    scores = np.zeros(len(GRID))
    for sample in samples:
        image, true = read_pair(sample)
        field = probability(image, choose_prompt(sample, prompt))
        scores += [metrics.dice(to_mask(field, level), true) for level in GRID]
    return scores / len(samples)
