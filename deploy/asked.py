"""Rows of a picture and a prompt on their way through the parts of a model."""

import hashlib
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .answers import Timings
from .engine import Arrays
from .pixels import Pixels


@dataclass
class Question:
    """Rows of a picture and a prompt on their way through the parts; `made` holds what there is of each by name.

    `pictures` are the keys by which pictures are known; None where nothing of them is to be kept.
    """

    images: Sequence[Pixels]
    prompts: Sequence[str]
    made: list[Arrays]
    timings: Timings
    pictures: Sequence[Hashable] | None = None

    def key(self, i: int, depends: Iterable[str]) -> Hashable:
        """Return the key of what depends on the picture, the prompt or both."""
        picture = self.pictures[i] if self.pictures else id(self.images[i])
        return tuple(picture if source == "picture" else self.prompts[i] for source in sorted(depends))


def rows_of(outputs: Arrays) -> list[Arrays]:
    """Return each row of a part's outputs by name; a copy of its own, since one kept row would hold the whole batch."""
    count = len(next(iter(outputs.values())))
    if count == 1:
        return [{name: array[0] for name, array in outputs.items()}]
    return [{name: array[i].copy() for name, array in outputs.items()} for i in range(count)]


def together(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Return rows as one batch; of a single row a view, since an embedding has a megabyte or more."""
    return rows[0][None] if len(rows) == 1 else np.stack(rows)


def key_of(image: Pixels) -> tuple[bytes, tuple[int, ...]]:
    """Return a key of the picture's bytes and shape; it cannot be turned back into the picture."""
    values = np.ascontiguousarray(image)
    return hashlib.blake2b(values.data, digest_size=16).digest(), values.shape
