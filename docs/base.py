"""Make docs/base.png: what the embedded base marks for pairs of sentences on drawn scenes it was never trained on.

python docs/base.py
"""

from pathlib import Path
from textwrap import fill

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from vlseg.train.base_quality import Segment, held_out_scenes, question, shipped, switch
from vlseg.train.scenes import Question, Scene, absent_phrase

PAIRS, ABSENT, COLUMNS = 6, 4, 4
MARK = (0.75, 1.0, 0.24)


def pairs(size: int) -> list[tuple[Scene, Question]]:
    """Scenes, each with two sentences that differ in one word."""
    found: list[tuple[Scene, Question]] = []
    for rng, scene in held_out_scenes("switch", size):
        found += [(scene, question(scene, phrase, rng)) for phrase in switch(scene, rng) or ()]
        if len(found) >= 2 * PAIRS:
            return found
    raise AssertionError("scenes never end")


def absent(size: int) -> list[tuple[Scene, Question]]:
    """Scenes, each with a sentence about an object that is not there."""
    found: list[tuple[Scene, Question]] = []
    for rng, scene in held_out_scenes("absent", size):
        phrase = absent_phrase(scene, rng)
        found += [(scene, question(scene, phrase, rng))] if phrase else []
        if len(found) == ABSENT:
            return found
    raise AssertionError("scenes never end")


def show(axes: plt.Axes, scene: Scene, asked: Question, segment: Segment) -> None:
    """Draw a scene, veiled but for the predicted mask, the mask that is meant as a dashed line."""
    mask = segment(scene.image, asked.sentence)
    axes.imshow(np.where(mask[..., None], scene.image, scene.image // 3))
    for wanted, style in ((mask, {"colors": [MARK]}), (asked.mask, {"colors": "white", "linestyles": "dashed"})):
        if wanted.any() and not wanted.all():
            axes.contour(wanted, levels=[0.5], linewidths=1.2, **style)
    axes.set_title(fill(asked.sentence, 36), fontsize=7)
    axes.axis("off")


def main() -> None:
    """Draw the first scenes that the judgement itself uses, whatever comes out."""
    segmenter = shipped()
    size = segmenter.manifest.image_size
    cases = [*pairs(size), *absent(size)]
    figure, grid = plt.subplots(len(cases) // COLUMNS, COLUMNS, figsize=(10, 11), layout="constrained")
    for axes, (scene, asked) in zip(grid.flat, cases, strict=True):
        show(axes, scene, asked, segmenter.segment)
    figure.savefig(Path(__file__).parent / "base.png", dpi=80)


if __name__ == "__main__":
    main()
