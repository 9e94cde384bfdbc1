"""Threshold before or after the resize? The three orders on real images, each at its own best threshold.

`python -m vlseg.deploy.trials.order CSV BUNDLE DATA --prompt p1`: thresholds are chosen on val, Dice is of test, at the
images' original size.
"""

from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..annotations import Sample, choose_prompt, read_pair, read_samples
from ..metrics import dice
from ..pixels import to_probability
from ..segmenter import Segmenter
from .figure import Figure, write

Shape = tuple[int, int]
LEVELS = tuple(round(0.05 * i, 2) for i in range(1, 20))


def sigmoid_first(logits: np.ndarray, shape: Shape) -> np.ndarray:
    """Return probabilities at `shape`: sigmoid, then resize; the product's order."""
    return to_probability(logits, *shape)


def resize_first(logits: np.ndarray, shape: Shape) -> np.ndarray:
    """Return probabilities at `shape`: the logits are resized, then the sigmoid."""
    resized = Image.fromarray(logits).resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return 0.5 * np.tanh(0.5 * np.asarray(resized)) + 0.5


def threshold_first(logits: np.ndarray, shape: Shape) -> np.ndarray:
    """Return probabilities at `shape` by the nearest pixel, so that a threshold is as good as taken before."""
    probability = Image.fromarray(0.5 * np.tanh(0.5 * logits) + 0.5)
    return np.asarray(probability.resize((shape[1], shape[0]), Image.Resampling.NEAREST))


ORDERS: dict[str, Callable[[np.ndarray, Shape], np.ndarray]] = {
    "sigmoid, resize, threshold": sigmoid_first,
    "resize, sigmoid, threshold": resize_first,
    "sigmoid, threshold, resize": threshold_first,
}


def scores(segmenter: Segmenter, samples: Sequence[Sample], prompt: str) -> dict[str, np.ndarray]:
    """Return Dice of every order, (images, levels)."""
    found: dict[str, list[list[float]]] = {name: [] for name in ORDERS}
    for sample in samples:
        image, true = read_pair(sample)
        logits = segmenter.logits(image, choose_prompt(sample, prompt, 0))
        for name, order in ORDERS.items():
            probability = order(logits, true.shape)
            found[name].append([dice(probability > level, true) for level in LEVELS])
    return {name: np.asarray(values) for name, values in found.items()}


def compare(segmenter: Segmenter, data: Path, prompt: str, seed: int = 0) -> list[Figure]:
    """Return mean Dice of each order on test, and the difference to the first with its paired bootstrap interval."""
    chosen, judged = (scores(segmenter, read_samples(data, split), prompt) for split in ("val", "test"))
    at = {name: int(values.mean(axis=0).argmax()) for name, values in chosen.items()}
    test = {name: values[:, at[name]] for name, values in judged.items()}
    first, *others = ORDERS
    about: dict[str, Any] = {
        "trial": "threshold before or after the resize",
        "bundle": f"{segmenter.manifest.name} {segmenter.manifest.precision}",
        "engine": segmenter.engine,
        "data": f"{data.resolve().name} test {prompt}",
        "n": len(test[first]),
    }
    figures = [
        Figure(arm=f"{name} at {LEVELS[at[name]]:g}", against="", value=float(values.mean()), unit="Dice", **about)
        for name, values in test.items()
    ]
    for name in others:
        gain = test[name] - test[first]
        draws = np.random.default_rng(seed).integers(0, len(gain), (2000, len(gain)))
        low, high = np.percentile(gain[draws].mean(axis=1), [2.5, 97.5])
        figures.append(
            Figure(
                arm=name,
                against=f"less {first}",
                value=float(gain.mean()),
                unit="Dice",
                low=float(low),
                high=float(high),
                **about,
            )
        )
    return figures


def main() -> None:
    """Measure and append the rows."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("csv", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--prompt", default="p1")
    asked = parser.parse_args()
    with Segmenter.open(asked.bundle) as segmenter:
        write(asked.csv, compare(segmenter, asked.data, asked.prompt))


if __name__ == "__main__":
    main()
