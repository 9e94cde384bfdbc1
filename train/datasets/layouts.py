"""How a data set lies on disk, as a record, and the one search that turns any of them into items."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ...deploy.errors import UserError
from ...deploy.files import read_json
from .items import SPLITS_AS_CALLED, TEST, TRAIN, VAL, Item, slug
from .shots import Classes, from_labels, from_masks, from_runs
from .tree import Part, Tree

Found = dict[str, tuple[dict[str, str], list[Path]]]


@dataclass(frozen=True)
class Layout:
    """Where images and masks lie, and how their names go together.

    Names are templates, filled with the named groups of the patterns; `{split}` and `{folder}` are what the source
    says of the split, `{index}` and `{label}` the class of a mask.

    Attributes:
        image: the images; groups of its pattern name them, and a group `split` says the split.
        mask: the masks, or the label maps, or the files of run-length masks.
        lists: text files, one for each split (group `split`), that name the groups in it; others are left aside.
        reads: "mask" (one object class), "labels" (a number for each class) or "runs" (JSON, by image and class).
        key: by this an image and its masks find each other; several masks of one key are one mask.
        name: the image's name in our layout.
        mask_name: the mask's name in our layout.
        group: what must not be divided over splits; None: the key.
        folders: our split, and what `{folder}` stands for.
    """

    image: Part
    mask: Part
    lists: Part | None = None
    reads: Literal["mask", "labels", "runs"] = "mask"
    key: str = "{key}"
    name: str = "{key}"
    mask_name: str = "{name}"
    group: str | None = None
    folders: Mapping[str, str] = field(default_factory=lambda: {TRAIN: TRAIN, VAL: VAL, TEST: TEST})


READERS = {"mask": from_masks, "labels": from_labels, "runs": from_runs}


def find_items(tree: Tree, layout: Layout, classes: Classes) -> list[Item]:
    """Return the items of a source that has this layout, by name.

    Raises:
        UserError: a kind of file that is not there at all, each named with an example; images without a mask; or two
            images of one name.
    """
    _check_parts(tree, layout)
    images, masks, listed = _by_key(tree, layout.image, layout.key), _masks(tree, layout), _lists(tree, layout)
    _check_pairs(tree, layout, images, masks, listed)
    items = []
    for key, (groups, paths) in sorted(images.items()):
        group = (layout.group or layout.key).format(**groups)
        if listed is not None and group not in listed:
            continue
        split = SPLITS_AS_CALLED.get(groups.get("split", "").lower()) if listed is None else listed[group]
        words = groups | {"key": key, "split": split or "", "folder": layout.folders.get(split or "", "")}
        words["name"] = name = layout.name.format(**words)
        shots = partial(READERS[layout.reads], partial(_mask_name, layout.mask_name, words), classes)
        if key in masks:
            items.append(Item(paths[0], name, group, partial(shots, masks[key]), split))
    return items


def missing(tree: Tree, layout: Layout) -> list[str]:
    """Return, for each kind of file of which a source has none, what it is and how it looks."""
    parts = {"images": layout.image, "masks": layout.mask, "split files": layout.lists}
    return [f"{what}, such as {part.example}" for what, part in parts.items() if part and not tree.find(part)]


def _check_parts(tree: Tree, layout: Layout) -> None:
    if lacking := missing(tree, layout):
        raise UserError(f"{tree.source} lacks {'; and '.join(lacking)}: add what is missing")


def _check_pairs(tree: Tree, layout: Layout, images: Found, masks: Mapping[str, Any], listed: Any) -> None:
    """Refuse images and masks that do not find each other; run-length files leave out images without an object."""
    groups = {key: (layout.group or layout.key).format(**groups) for key, (groups, _) in images.items()}
    wanted = [key for key in images if listed is None or groups[key] in listed]
    if not wanted:
        raise UserError(f"no image of {tree.source} is named in its split files: expected the same names in both")
    if lone := [key for key in wanted if key not in masks and layout.reads != "runs"]:
        raise UserError(f"{len(lone)} of {len(wanted)} images have no mask ({few(lone)}): add the masks")
    if lone := sorted(masks.keys() - images.keys()):
        raise UserError(f"{len(lone)} of {len(masks)} masks have no image ({few(lone)}): add the images")
    for key in wanted:
        if len(paths := images[key][1]) > 1:
            raise UserError(f"{paths[0]} and {paths[1]} are both the image {key}: keep one of them")


def _by_key(tree: Tree, part: Part, template: str) -> Found:
    found: Found = {}
    for groups, path in tree.find(part):
        found.setdefault(template.format(**groups), (groups, []))[1].append(path)
    return found


def _lists(tree: Tree, layout: Layout) -> dict[str, str] | None:
    """Return the split of each group that the split files name, or None where the layout has no such files."""
    if layout.lists is None:
        return None
    lines = ((SPLITS_AS_CALLED[groups["split"]], path.read_text().split()) for groups, path in tree.find(layout.lists))
    return {name: split for split, names in lines for name in names}


def _masks(tree: Tree, layout: Layout) -> dict[str, Any]:
    """Return by key the files of the masks, or the run-length masks by class with the file they are in."""
    if layout.reads != "runs":
        return {key: paths for key, (_, paths) in _by_key(tree, layout.mask, layout.key).items()}
    coded: dict[str, Any] = {}
    for _, path in tree.find(layout.mask):
        for key, by_class in read_json(path).items():
            coded[key] = {label: (runs, path) for label, runs in by_class.items()}
    return coded


def _mask_name(template: str, words: dict[str, str], label: str, phrase: str) -> str:
    return template.format(**words | {"index": label, "label": phrase, "slug": slug(phrase)})


def few(names: list[str], most: int = 5) -> str:
    """Return the first few names, for a sentence."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
