"""Drawn scenes and questions about them as one batch of tensors, with the traits that hints are trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..deploy.pixels import to_input
from ..deploy.words import Tokenizer
from .models.sizes import IMAGENET_MEAN, IMAGENET_STD
from .scenes import Question, Scene, ask, draw
from .sentences import WORDS, Phrase

PATCH = 8
LOOKS = ("colour", "shape", "size")


@dataclass
class Batch:
    """B pictures and Q sentences about each.

    Attributes:
        pixels: normalised pictures, float32 (B, 3, S, S).
        ids: sentences, int64 (B * Q, L).
        attention: 1 for a token, 0 for padding, int64 (B * Q, L).
        masks: what the sentences mean, float32 (B * Q, S, S).
        patches: index of colour, shape and size at the centre of each of N patches, -1 for none, int64 (B, 3, N).
        forms: form of the object at the centre of each patch, NaN for none, float32 (B, 5, N), as in `patch_forms`.
        words: index of the colour, shape, size and place that a sentence mentions, int64 (B * Q, 4).
    """

    pixels: Tensor
    ids: Tensor
    attention: Tensor
    masks: Tensor
    patches: Tensor
    forms: Tensor
    words: Tensor

    @property
    def questions(self) -> int:
        """Sentences per picture."""
        return len(self.ids) // len(self.pixels)


@dataclass(frozen=True)
class Stage:
    """A part of the training: its share of the time, the pictures' side in pixels, pictures, sentences about each."""

    share: float
    size: int
    pictures: int
    questions: int


def draw_batch(rng: np.random.Generator, stage: Stage, tokenizer: Tokenizer) -> Batch:
    """A fresh training batch, a function of the generator."""
    drawn = [draw(rng, stage.size) for _ in range(stage.pictures)]
    return compose(drawn, [[ask(scene, rng) for _ in range(stage.questions)] for scene in drawn], tokenizer)


def compose(drawn: list[Scene], asked: list[list[Question]], tokenizer: Tokenizer) -> Batch:
    """Put scenes of one size, and equally many questions about each, into one batch."""
    flat = [question for questions in asked for question in questions]
    inputs = [to_input(scene.image, len(scene.image), IMAGENET_MEAN, IMAGENET_STD) for scene in drawn]
    ids, attention = tokenizer([question.sentence for question in flat])
    return Batch(
        torch.from_numpy(np.stack(inputs)),
        torch.from_numpy(ids),
        torch.from_numpy(attention),
        torch.from_numpy(np.stack([question.mask for question in flat]).astype(np.float32)),
        torch.from_numpy(np.stack([patch_traits(scene) for scene in drawn])),
        torch.from_numpy(np.stack([patch_forms(scene) for scene in drawn])),
        torch.tensor([word_ids(question.phrase) for question in flat]),
    )


def patch_traits(scene: Scene) -> np.ndarray:
    """Indices of colour, shape and size at the centre of each patch, int64 (3, N); -1 where there is none."""
    middle = slice(PATCH // 2, None, PATCH)
    grid = np.full((len(LOOKS), *scene.image[middle, middle, 0].shape), -1, np.int64)
    for blob in scene.blobs:
        for i, name in enumerate(LOOKS):
            word = getattr(blob.traits, name)
            grid[i][blob.mask[middle, middle]] = WORDS[name].index(word) if word else -1
    return grid.reshape(len(LOOKS), -1)


def patch_forms(scene: Scene) -> np.ndarray:
    """Numbers from which shapes can be told, at the centre of each patch, float32 (5, N); NaN where there is no object.

    Way to the object's centroid (x, y, in units of 4 patches), its elongation (along the axes, along the diagonals; -1
    to 1) and the share of its circumscribed disc that it fills.
    """
    middle = slice(PATCH // 2, None, PATCH)
    grid = np.full((5, *scene.image[middle, middle, 0].shape), np.nan, np.float32)
    for blob in scene.blobs:
        inside = blob.mask[middle, middle]
        y, x = (values.astype(np.float32) for values in np.nonzero(blob.mask))
        if len(x) < PATCH or not inside.any():
            continue
        row, column = (PATCH * values + PATCH // 2 for values in np.nonzero(inside))
        dx, dy = x - x.mean(), y - y.mean()
        xx, yy, xy = (dx * dx).mean(), (dy * dy).mean(), (dx * dy).mean()
        fill = len(x) / (np.pi * (dx * dx + dy * dy).max())
        grid[0][inside], grid[1][inside] = (x.mean() - column) / (4 * PATCH), (y.mean() - row) / (4 * PATCH)
        grid[2][inside], grid[3][inside], grid[4][inside] = (xx - yy) / (xx + yy), 2 * xy / (xx + yy), fill
    return grid.reshape(5, -1)


def word_ids(phrase: Phrase) -> list[int]:
    """Index of each trait's word; the number of words where the trait is not mentioned."""
    said = {name: getattr(phrase, name) for name in WORDS}
    return [words.index(said[name]) if said[name] else len(words) for name, words in WORDS.items()]
