"""COCO annotations: one mask for each category that an image shows, the union of its objects."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ...deploy.errors import UserError
from ...deploy.files import read_json
from .items import Item, Shot, slug, split_in
from .layouts import few
from .runs import MOST, decode_runs
from .tree import Tree

EXPECTED = "expected COCO JSON with images, annotations and categories, and the images beside it"


def read_coco(tree: Tree) -> list[Item]:
    """Return the images that the COCO files of a source annotate; the split is what a file's path says.

    Raises:
        UserError: no COCO file, images that are not there, a broken annotation.
    """
    items = [item for name, path in tree.files.items() if name.endswith(".json") for item in _items(tree, name, path)]
    if not items:
        raise UserError(f"{tree.source} holds no COCO annotations: {EXPECTED}")
    return items


def draw_polygons(polygons: Iterable[Sequence[float]], height: int, width: int) -> np.ndarray:
    """Return the area of polygons [x1, y1, x2, y2, ...] in pixels, outline included, as bool (height, width).

    ValueError for sides below 1 or more pixels than `runs.MOST`.
    """
    if min(height, width) < 1 or height * width > MOST:
        raise ValueError(f"{width} x {height} pixels")
    picture = Image.new("1", (width, height))
    for polygon in polygons:
        ImageDraw.Draw(picture).polygon([float(value) for value in polygon], fill=1)
    return np.asarray(picture)


def _items(tree: Tree, name: str, path: Path) -> Iterable[Item]:
    content = read_json(path)
    if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= content.keys():
        return
    try:
        words = {category["id"]: category["name"] for category in content["categories"]}
        objects: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for annotation in content["annotations"]:
            objects[annotation["image_id"]].append(annotation)
        pictures = {entry["id"]: entry for entry in content["images"] if entry["id"] in objects}
        files = {number: _file(tree, name, entry["file_name"]) for number, entry in pictures.items()}
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} is not COCO as published (it lacks {error}): {EXPECTED}") from error
    if lost := [pictures[number]["file_name"] for number, file in files.items() if file is None]:
        raise UserError(f"{len(lost)} of {len(pictures)} images of {path} are not there ({few(lost)}): add them")
    split = split_in(name)
    for number, entry in pictures.items():
        stem = "/".join([*([split] if split else []), PurePosixPath(entry["file_name"]).stem])
        shots = partial(_shots, path, entry, objects[number], words, stem)
        yield Item(files[number], stem, stem, shots, split)  # type: ignore[arg-type]


def _file(tree: Tree, json_name: str, file_name: str) -> Path | None:
    """Return an image: beside its JSON, or anywhere if only one file has the name."""
    beside = (PurePosixPath(json_name).parent / file_name).as_posix()
    return tree.files.get(beside) or tree.named(file_name)


def _shots(
    path: Path, entry: Mapping[str, Any], objects: Sequence[Mapping[str, Any]], words: Mapping[Any, str], stem: str
) -> Iterable[Shot]:
    where = f"{path}, image {entry['file_name']}"
    masks: dict[str, np.ndarray] = {}
    for annotation in objects:
        try:
            phrase, shape = words[annotation["category_id"]], (int(entry["height"]), int(entry["width"]))
            coded = annotation["segmentation"]
            mask = decode_runs(coded, where) if isinstance(coded, Mapping) else draw_polygons(coded, *shape)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{where} has a broken annotation ({error}): {EXPECTED}") from error
        if phrase in masks and masks[phrase].shape != mask.shape:
            raise UserError(f"{where} has run-length masks of different sizes: correct the annotation")
        masks[phrase] = masks[phrase] | mask if phrase in masks else mask
    for phrase, mask in masks.items():
        yield Shot(f"{stem}_{slug(phrase)}", phrase, mask)
