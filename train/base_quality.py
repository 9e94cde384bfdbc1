"""Does the embedded base obey text? Judged on drawn scenes that training never sees, one row per judgement.

Three questions, each on scenes with at least two objects: is the mask right for words seen together in training, and
for pairs of words held out from it; does the right object change when only one word of the sentence changes; and does
the mask stay empty when the object is not there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from ..deploy.metrics import dice
from ..deploy.rows import append_row
from ..deploy.segmenter import Segmenter
from .scenes import Question, Scene, absent_phrase, draw, present_phrase
from .sentences import WORDS, Phrase, say

Array = np.ndarray
Segment = Callable[[Array, str], Array]
SEED = 2  # training draws from family 0, its own checks from 1, data sets from 3
EMPTY = 0.01


def question(scene: Scene, phrase: Phrase, rng: np.random.Generator) -> Question:
    """Put a phrase into a sentence about a scene."""
    return Question(phrase, say(phrase, scene.count(phrase), rng), scene.mask(phrase))


def held_out_scenes(kind: str, size: int) -> Iterator[tuple[np.random.Generator, Scene]]:
    """Endless scenes of at least two objects, each with its own generator; a function of kind and number."""
    for number in count():
        rng = np.random.default_rng([SEED, *kind.encode(), number])
        yield rng, draw(rng, size, least=2)


def dice_of_combinations(segment: Segment, n: int, size: int, held_out: bool) -> list[float]:
    """Dice of `n` sentences of two words or more that leave some object out, with or without a held-out pair."""
    found: list[float] = []
    for rng, scene in held_out_scenes("unseen" if held_out else "seen", size):
        if len(found) == n:
            return found
        phrase = present_phrase(scene, rng, held_out=held_out)
        if phrase and len(phrase.said) >= 2 and scene.count(phrase) < len(scene.blobs):
            asked = question(scene, phrase, rng)
            found.append(dice(segment(scene.image, asked.sentence), asked.mask))
    return found


def switch(scene: Scene, rng: np.random.Generator) -> tuple[Phrase, Phrase] | None:
    """Two phrases that differ in one word, each true of one object, not the same one. None if none is found."""
    for _ in range(40):
        phrase = present_phrase(scene, rng)
        if phrase is None or scene.count(phrase) != 1:
            continue
        name = phrase.said[rng.integers(len(phrase.said))]
        others = [phrase.with_word(name, word) for word in WORDS[name] if word != getattr(phrase, name)]
        others = [o for o in others if not o.held_out and scene.count(o) == 1 and not _same(scene, phrase, o)]
        if others:
            return phrase, others[rng.integers(len(others))]
    return None


def right_objects(segment: Segment, n: int, size: int) -> list[bool]:
    """For each of two sentences on `n` scenes: is the object meant the one the mask covers best (by IoU)?"""
    found: list[bool] = []
    for rng, scene in held_out_scenes("switch", size):
        if len(found) == 2 * n:
            return found
        pair = switch(scene, rng)
        for phrase in pair or ():
            mask = segment(scene.image, question(scene, phrase, rng).sentence)
            overlap = [(mask & blob.mask).sum() / max(1, (mask | blob.mask).sum()) for blob in scene.blobs]
            meant = [phrase.fits(blob.traits) for blob in scene.blobs].index(True)
            found.append(bool(overlap[meant] > 0 and np.argmax(overlap) == meant))
    return found


def absent_areas(segment: Segment, n: int, size: int) -> list[float]:
    """Share of the picture covered when the sentence is one word away from an object, on `n` scenes."""
    found: list[float] = []
    for rng, scene in held_out_scenes("absent", size):
        if len(found) == n:
            return found
        phrase = absent_phrase(scene, rng)
        if phrase:
            found.append(float(segment(scene.image, question(scene, phrase, rng).sentence).mean()))
    return found


def combinations(segment: Segment, n: int, size: int, held_out: bool) -> dict[str, float]:
    """Mean Dice for pairs of words seen together in training, or for held-out ones."""
    return {"unseen" if held_out else "seen": float(np.mean(dice_of_combinations(segment, n, size, held_out)))}


def words(segment: Segment, n: int, size: int) -> dict[str, float]:
    """Mean Dice of sentences that name one trait only and leave some object out, by trait."""
    found: dict[str, list[float]] = {name: [] for name in WORDS}
    for rng, scene in held_out_scenes("words", size):
        if min(len(values) for values in found.values()) >= n:
            return {f"{name}_word": float(np.mean(values)) for name, values in found.items()}
        for name, values in found.items():
            phrase = scene.blobs[rng.integers(len(scene.blobs))].traits.only((name,))
            if scene.count(phrase) < len(scene.blobs) and len(values) < n:
                asked = question(scene, phrase, rng)
                values.append(dice(segment(scene.image, asked.sentence), asked.mask))
    raise AssertionError("scenes never end")


def switching(segment: Segment, n: int, size: int) -> dict[str, float]:
    """Share of sentences, and of pairs of them, that find the right object when one word changes."""
    right = right_objects(segment, n, size)
    both = [first and second for first, second in zip(right[::2], right[1::2], strict=True)]
    return {"right_object": float(np.mean(right)), "both_right": float(np.mean(both))}


def absence(segment: Segment, n: int, size: int) -> dict[str, float]:
    """Share of absent objects whose mask covers less than 1 % of the picture."""
    return {"absent_empty": float(np.mean([area < EMPTY for area in absent_areas(segment, n, size)]))}


JUDGEMENTS: dict[str, Callable[[Segment, int, int], dict[str, float]]] = {
    "seen": partial(combinations, held_out=False),
    "unseen": partial(combinations, held_out=True),
    "switching": switching,
    "absence": absence,
    "words": words,
}


def judge(segment: Segment, n: int = 500, size: int = 176) -> dict[str, float]:
    """All judgements, 0 to 1: seen, unseen, right_object, both_right, absent_empty, and Dice by word."""
    return {name: value for part in JUDGEMENTS.values() for name, value in part(segment, n, size).items()}


def measure(csv: Path, n: int = 500, threads: int = 2) -> dict[str, float]:
    """Judge the shipped weights at their own picture size and append one row per figure to `csv`."""
    with ProcessPoolExecutor(threads, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        parts = list(pool.map(_judge_shipped, JUDGEMENTS, [n] * len(JUDGEMENTS)))
    figures = {name: value for part in parts for name, value in part}
    told: dict[str, Any] = {"weights_hash": shipped().manifest.weights_hash, "seed": SEED, "n": n, "threads": threads}
    for name, value in figures.items():
        append_row(csv, {"figure": name, "value": round(value, 4), **told})
    return figures


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _judge_shipped(name: str, n: int) -> list[tuple[str, float]]:
    segmenter = shipped()
    return list(JUDGEMENTS[name](segmenter.segment, n, segmenter.manifest.image_size).items())


def shipped() -> Segmenter:
    """The frozen base with the weights in this package, in torch."""
    from .engine import segmenter_of
    from .models.methods import build_model

    return segmenter_of(build_model("clipseg/frozen", "tiny"), name="base", method="clipseg/frozen", size="tiny")


def _same(scene: Scene, first: Phrase, second: Phrase) -> bool:
    return any(first.fits(blob.traits) and second.fits(blob.traits) for blob in scene.blobs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure how well the embedded base obeys text.")
    parser.add_argument("csv", type=Path, help="table that the rows are appended to")
    parser.add_argument("--n", type=int, default=500, help="scenes per figure")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    for name, value in measure(given.csv, given.n, given.threads).items():
        print(f"{name} {value:.4f}")
