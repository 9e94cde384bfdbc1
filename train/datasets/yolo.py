"""YOLO segmentation labels: text files of polygons, one mask for each class that an image shows."""

import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ...deploy.errors import UserError
from ...deploy.pixels import SUFFIXES, read_image
from .coco import draw_polygons
from .items import Item, Shot, slug, split_in
from .layouts import few
from .tree import Tree

EXPECTED = "expected data.yaml with names, images/ and labels/ with lines such as `0 0.1 0.2 0.5 0.2 0.3 0.7`"
LABELS = re.compile(r"(^|/)labels/(?=(.+)\.txt$)")


def read_yolo(tree: Tree) -> list[Item]:
    """Return the labelled images of a source; the split is what a label file's path says.

    Raises:
        UserError: no names or labels, labels without an image, a line that is no polygon (a box, for example).
    """
    words = _words(tree)
    names = [name for name in tree.files if LABELS.search(name)]
    if not names:
        raise UserError(f"{tree.source} holds no labels/*.txt: {EXPECTED}")
    images = {name: _image(tree, name) for name in names}
    if lost := [name for name, image in images.items() if image is None]:
        raise UserError(f"{len(lost)} of {len(names)} label files have no image ({few(lost)}): add them")
    return [_item(name, tree.files[name], image, words) for name, image in images.items() if image]


def _words(tree: Tree) -> dict[str, str]:
    """Return the names of the classes by number, as text."""
    import yaml

    path = next((path for name, path in tree.files.items() if re.search(r"(^|/)data\.ya?ml$", name)), None)
    if path is None:
        raise UserError(f"{tree.source} holds no data.yaml: {EXPECTED}")
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"cannot read {path} ({error}): {EXPECTED}") from error
    names = content.get("names") if isinstance(content, dict) else None
    if not isinstance(names, list | dict):
        raise UserError(f"{path} has no names of classes: {EXPECTED}")
    pairs = names.items() if isinstance(names, dict) else enumerate(names)
    return {str(number): str(name) for number, name in pairs}


def _image(tree: Tree, name: str) -> Path | None:
    stem = LABELS.sub(r"\1images/", name).removesuffix(".txt")
    found = (tree.files.get(stem + suffix) for suffix in sorted(SUFFIXES | {suffix.upper() for suffix in SUFFIXES}))
    return next((path for path in found if path), None)


def _item(name: str, labels: Path, image: Path, words: Mapping[str, str]) -> Item:
    split = split_in(name)
    stem = "/".join([*([split] if split else []), PurePosixPath(name).stem])
    return Item(image, stem, stem, partial(_shots, labels, image, words, stem), split)


def _shots(labels: Path, image: Path, words: Mapping[str, str], stem: str) -> Iterable[Shot]:
    height, width = read_image(image).shape[:2]
    by_class: dict[str, list[np.ndarray]] = {}
    for number, line in enumerate(_lines(labels), 1):
        if not line.strip():
            continue
        label, *values = line.split()
        if label not in words:
            raise UserError(f"{labels}, line {number}: class {label} has no name; known: {', '.join(words)}")
        by_class.setdefault(label, []).append(_polygon(values, f"{labels}, line {number}"))
    for label, polygons in by_class.items():
        sized = [(polygon * (width, height)).ravel().tolist() for polygon in polygons]
        yield Shot(f"{stem}_{slug(words[label])}", words[label], draw_polygons(sized, height, width))


def _lines(labels: Path) -> list[str]:
    try:
        return labels.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {labels} ({error}): {EXPECTED}") from error


def _polygon(values: list[str], where: str) -> np.ndarray:
    """Return the corners, float (n, 2), in shares of the image's sides."""
    if len(values) == 4:
        raise UserError(f"{where} is a box, not a polygon: {EXPECTED}")
    try:
        corners = np.array([float(value) for value in values]).reshape(-1, 2)
    except ValueError as error:
        raise UserError(f"{where} is not a class and pairs of numbers: {EXPECTED}") from error
    if len(corners) < 3 or not ((corners >= 0) & (corners <= 1)).all():
        raise UserError(f"{where} is no polygon of at least 3 corners between 0 and 1: {EXPECTED}")
    return corners
