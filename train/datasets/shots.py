"""Three ways in which owners publish masks: a file for each, a number for each class, or run lengths in JSON."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...deploy.errors import UserError
from ...deploy.pixels import read_mask
from .items import Shot
from .plane import is_medical, read_labels, read_plane
from .runs import decode_runs

Classes = Mapping[str, str]
"""By the label of a class (a number in a label map, a name among run lengths), its words; by "" where there is one."""
Namer = Callable[[str, str], str]
"""Makes a mask's name of the label and the words of its class."""
Coded = Mapping[str, tuple[Mapping[str, Any], Path]]
"""By class, a run-length mask and the file it is in."""


def from_masks(name: Namer, classes: Classes, paths: Sequence[Path]) -> Iterable[Shot]:
    """Yield the one mask of an image: where any of its files shows an object."""
    masks = [read_plane(path) > 0 if is_medical(path) else read_mask(path) for path in paths]
    for path, mask in zip(paths, masks, strict=True):
        if mask.shape != masks[0].shape:
            raise UserError(f"{path} and {paths[0]} are masks of one image, but of different sizes: redo one")
    yield Shot(name("", classes[""]), classes[""], np.logical_or.reduce(masks))


def from_labels(name: Namer, classes: Classes, paths: Sequence[Path]) -> Iterable[Shot]:
    """Yield a mask for each known class that a label map shows; UserError where there are two maps."""
    if len(paths) > 1:
        raise UserError(f"{paths[0]} and {paths[1]} are both the label map of one image: keep one of them")
    values = read_labels(paths[0])
    present = {str(value) for value in np.unique(values)}
    for label, words in classes.items():
        if label in present:
            yield Shot(name(label, words), words, values == int(label))


def from_runs(name: Namer, classes: Classes, coded: Coded) -> Iterable[Shot]:
    """Yield a mask for each known class whose runs show an object."""
    for label, (runs, path) in coded.items():
        if label in classes:
            mask = decode_runs(runs, f"{path}, {name(label, classes[label])}")
            if mask.any():
                yield Shot(name(label, classes[label]), classes[label], mask)
