"""How good a model is on a split: Dice, IoU and HD95 of every image, at its original size.

One implementation for every engine, and for torch behind the same protocol.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import metrics
from .annotations import Sample, choose_prompt, read_pair
from .errors import UserError
from .segmenter import Segmenter

Progress = Callable[[int, int], None]


def evaluate(
    segmenter: Segmenter,
    samples: Sequence[Sample],
    prompt_key: str,
    *,
    data: str,
    split: str,
    threshold: float | None = None,
    hd95: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return `{data, split, prompt, n, mean, hd95_one_empty, images, threshold, engine}`, plain JSON values.

    `mean` and each of `images` hold dice and iou (0..1) and hd95 (pixels; None with `hd95=False`); `hd95_one_empty`
    counts the images where exactly one mask is empty, whose HD95 is the diagonal by convention. `threshold` None is
    the manifest's; `seed` chooses among alternative sentences; `progress(done, total)` is called after each image.

    Raises:
        UserError: no samples, an unknown prompt key, a pair that cannot be read, or scipy absent where HD95 is
            asked for.
    """
    if not samples:
        raise UserError(f"{data} has no samples in split {split!r}, expected at least one")
    if hd95:
        metrics.require_scipy()
    level = segmenter.manifest.threshold if threshold is None else threshold
    prompts = [choose_prompt(sample, prompt_key, seed) for sample in samples]
    images, one_empty = [], 0
    for done, (sample, prompt) in enumerate(zip(samples, prompts, strict=True), start=1):
        image, true = read_pair(sample)
        pred = segmenter.segment(image, prompt, level)
        images.append({"name": sample.name, **score(pred, true, hd95)})
        one_empty += metrics.one_empty(pred, true)
        if progress:
            progress(done, len(samples))
    return {
        "data": data,
        "split": split,
        "prompt": prompt_key,
        "n": len(images),
        "mean": {name: _mean(images, name) for name in ("dice", "iou", "hd95")},
        "hd95_one_empty": one_empty,
        "images": images,
        "threshold": level,
        "engine": segmenter.engine,
    }


def score(pred: np.ndarray, true: np.ndarray, hd95: bool = True) -> dict[str, float | None]:
    """Return dice, iou (0..1) and hd95 (pixels, or None when not asked for) of two bool masks (H, W)."""
    distance = metrics.hd95(pred, true) if hd95 else None
    return {"dice": metrics.dice(pred, true), "iou": metrics.iou(pred, true), "hd95": distance}


def _mean(images: list[dict[str, Any]], name: str) -> float | None:
    values = [image[name] for image in images]
    return None if None in values else float(np.mean(values))
