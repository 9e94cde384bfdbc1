"""Drawn scenes and questions about them as one batch of tensors, with the traits that hints are trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..deploy.pixels import to_input
from ..deploy.words import Tokenizer
from .models.sizes import IMAGENET_MEAN, IMAGENET_STD
from .scenes import Blob, Question, Scene, ask, draw
from .sentences import WORDS, Phrase

PATCH = 8
LOOKS = ("colour", "shape", "size")
STRESS = {"colour": 0.35, "shape": 0.75, "size": 0.35, "place": 0.35}
"""How often a training sentence mentions each trait: shapes are the hardest to learn."""


@dataclass
class Batch:
    """B views of pictures and Q sentences about each.

    Attributes:
        pixels: normalised views, float32 (B, 3, S, S).
        places: where each of a view's N patches lies in the whole picture, row by row, int64 (B, N).
        ids: sentences, int64 (B * Q, L).
        attention: 1 for a token, 0 for padding, int64 (B * Q, L).
        masks: what the sentences mean, float32 (B * Q, S, S).
        patches: index of colour, shape and size at the centre of each of N patches, -1 for none, int64 (B, 3, N).
        forms: form of the object at the centre of each patch, NaN for none, float32 (B, 5, N), as in `patch_forms`.
        words: index of the colour, shape, size and place that a sentence mentions, int64 (B * Q, 4).
    """

    pixels: Tensor
    places: Tensor
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
    """A part of the training: its share of the time, and what one step of one process looks at.

    `pictures` scenes, `views` windows of each, `window` patches wide (0: the whole picture), `questions` about each.
    """

    share: float
    window: int
    pictures: int
    views: int
    questions: int


@dataclass(frozen=True)
class View:
    """A square window on a scene: its first row and column and its side, in patches.

    Its patches keep their places in the whole picture, so that "left" and "large" mean what they mean there.
    """

    scene: Scene
    row: int
    column: int
    side: int

    @property
    def patches(self) -> tuple[slice, slice]:
        """Rows and columns of patches."""
        return slice(self.row, self.row + self.side), slice(self.column, self.column + self.side)

    @property
    def pixels(self) -> tuple[slice, slice]:
        """Rows and columns of pixels."""
        rows, columns = (slice(PATCH * part.start, PATCH * part.stop) for part in self.patches)
        return rows, columns

    @property
    def seen(self) -> tuple[Blob, ...]:
        """The objects that show in it."""
        return tuple(blob for blob in self.scene.blobs if blob.mask[self.pixels].any())


def draw_batch(rng: np.random.Generator, stage: Stage, size: int, tokenizer: Tokenizer) -> Batch:
    """A fresh training batch of scenes of `size` pixels, a function of the generator."""
    views = [view for _ in range(stage.pictures) for view in look_at(draw(rng, size), stage, rng)]
    return compose(views, [[ask_about(view, rng) for _ in range(stage.questions)] for view in views], tokenizer)


def whole(scene: Scene) -> View:
    """The view of all of a scene."""
    return View(scene, 0, 0, len(scene.image) // PATCH)


def look_at(scene: Scene, stage: Stage, rng: np.random.Generator) -> list[View]:
    """The views of a scene that a stage wants, each around some object."""
    if not stage.window:
        return [whole(scene)]
    free = len(scene.image) // PATCH - stage.window
    views = []
    for _ in range(stage.views):
        x, y = scene.blobs[rng.integers(len(scene.blobs))].center
        row, column = (
            int(np.clip(v * (free + stage.window) - stage.window * rng.uniform(0.3, 0.7) + 0.5, 0, free))
            for v in (y, x)
        )
        views.append(View(scene, row, column, stage.window))
    return views


def ask_about(view: View, rng: np.random.Generator) -> Question:
    """One question about a scene, two times in three about something that shows in the view."""
    seen = view.seen
    return ask(view.scene, rng, about=seen if seen and rng.random() < 2 / 3 else None, chances=STRESS)


def compose(views: list[View], asked: list[list[Question]], tokenizer: Tokenizer) -> Batch:
    """Put views of one size, and equally many questions about each, into one batch."""
    questions = [(view, question) for view, group in zip(views, asked, strict=True) for question in group]
    ids, attention = tokenizer([question.sentence for _, question in questions])
    side = len(views[0].scene.image) // PATCH
    places = np.arange(side * side).reshape(side, side)
    return Batch(
        torch.from_numpy(np.stack([_pixels(view) for view in views])),
        torch.from_numpy(np.stack([places[view.patches].ravel() for view in views])),
        torch.from_numpy(ids),
        torch.from_numpy(attention),
        torch.from_numpy(np.stack([q.mask[view.pixels] for view, q in questions]).astype(np.float32)),
        torch.from_numpy(_windows(patch_traits, views)),
        torch.from_numpy(_windows(patch_forms, views)),
        torch.tensor([word_ids(question.phrase) for _, question in questions]),
    )


def _pixels(view: View) -> np.ndarray:
    image = view.scene.image[view.pixels]
    return to_input(image, len(image), IMAGENET_MEAN, IMAGENET_STD)


def _windows(grid_of: Callable[[Scene], np.ndarray], views: list[View]) -> np.ndarray:
    """What `grid_of` says of each patch, (C, side, side) for a scene, cut to the views: (B, C, N)."""
    grids = {id(view.scene): grid_of(view.scene) for view in views}
    return np.stack([grids[id(v.scene)][(slice(None), *v.patches)].reshape(-1, v.side**2) for v in views])


def patch_traits(scene: Scene) -> np.ndarray:
    """Indices of colour, shape and size at the centre of each patch, int64 (3, side, side); -1 where there is none."""
    middle = slice(PATCH // 2, None, PATCH)
    grid = np.full((len(LOOKS), *scene.image[middle, middle, 0].shape), -1, np.int64)
    for blob in scene.blobs:
        for i, name in enumerate(LOOKS):
            word = getattr(blob.traits, name)
            grid[i][blob.mask[middle, middle]] = WORDS[name].index(word) if word else -1
    return grid


def patch_forms(scene: Scene) -> np.ndarray:
    """Numbers from which shapes can be told, at each patch's centre, float32 (5, side, side); NaN where there is none.

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
    return grid


def word_ids(phrase: Phrase) -> list[int]:
    """Index of each trait's word; the number of words where the trait is not mentioned."""
    said = {name: getattr(phrase, name) for name in WORDS}
    return [words.index(said[name]) if said[name] else len(words) for name, words in WORDS.items()]
