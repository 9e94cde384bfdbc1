"""A picture as the runtime knows it: pixels, and what its file says about them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..pixels import Pixels, shape_of


@dataclass(frozen=True)
class Picture:
    """One picture of a file.

    Attributes:
        image: as the model is to see it: uint8 RGB (H, W, 3), or what Pillow decoded, in RGB.
        source: the file.
        kind: `picture`, `dicom` or `nifti`.
        spacing: millimetres from one row to the next and from one column to the next; None where the file does not say.
        index: which frame or slice of the file, from 0.
        notes: sentences a user should read, as about a spacing that holds at the detector.
        meta: what the file says besides: `window` (low, high), `photometric`, `modality`, `frames`; never a name or
            another word about the patient.
    """

    image: Pixels
    source: Path
    kind: str = "picture"
    spacing: tuple[float, float] | None = None
    index: int = 0
    notes: tuple[str, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def pixels(self) -> np.ndarray:
        """The picture as uint8 RGB (H, W, 3), upright."""
        return self.image if isinstance(self.image, np.ndarray) else np.array(self.image)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return shape_of(self.image)


@dataclass(frozen=True)
class Pictures:
    """The pictures of one file, each made when it is asked for.

    Attributes:
        source: the file.
        kind: as `Picture.kind`.
        count: how many there are.
        read: returns the picture at an index, from 0.
        native: what the file's own library made of it: pydicom's data set, or a `nifti.Volume`.
    """

    source: Path
    kind: str
    count: int
    read: Callable[[int], Picture]
    native: Any = None

    def __len__(self) -> int:
        """Return how many pictures there are."""
        return self.count

    def __iter__(self) -> Iterator[Picture]:
        """Yield each picture in order."""
        return (self.read(index) for index in range(self.count))
