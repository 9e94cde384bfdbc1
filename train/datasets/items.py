"""What every converter hands over: one image, the masks made from it, and what must stay together in a split."""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...deploy.errors import UserError

TRAIN, VAL, TEST = "train", "val", "test"
SPLITS_AS_CALLED = {
    "train": TRAIN, "training": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": TEST, "testing": TEST
}  # fmt: skip
SPLIT_WORD = re.compile(rf"(?i)(?:^|[/_.-])({'|'.join(SPLITS_AS_CALLED)})(?=\d*(?:[/_.-]|$))")


@dataclass(frozen=True)
class Shot:
    """One mask, bool (H, W), its name within `masks/` without suffix, and the words for what it shows."""

    name: str
    phrase: str
    mask: np.ndarray


@dataclass(frozen=True)
class Item:
    """One image and what belongs to it.

    Attributes:
        image: the file.
        name: its name within `images/`, without suffix.
        group: what must not be divided over splits: a patient, a video, or the image itself.
        shots: makes the masks, decoded when they are asked for.
        split: train, val or test; None: not said.
    """

    image: Path
    name: str
    group: str
    shots: Callable[[], Iterable[Shot]]
    split: str | None = None


def with_splits(items: Sequence[Item]) -> list[Item]:
    """Return the items with a split each, always the same one for the same groups.

    Where none is said, groups in the order of their hash go, a tenth each, to val and to test, the rest to train. Where
    val alone is wanting, it takes a tenth of the groups of train.

    Raises:
        UserError: some items have a split and some have none, or there are too few.
    """
    said = {item.split for item in items}
    if None in said and len(said) > 1:
        lost = next(item for item in items if item.split is None)
        raise UserError(f"the path of {lost.image} names no split, those of others do: expected all or none to do so")
    if said == {None}:
        return _deal(items, (VAL, TEST))
    if VAL in said or TRAIN not in said:
        return list(items)
    train = [item for item in items if item.split == TRAIN]
    return _deal(train, (VAL,)) + [item for item in items if item.split != TRAIN]


def _deal(items: Sequence[Item], held_out: Sequence[str]) -> list[Item]:
    """Give a tenth of the groups, at least one, to each held-out split, and the rest to train."""
    groups = sorted({item.group for item in items}, key=lambda group: hashlib.sha256(group.encode()).hexdigest())
    if len(groups) <= len(held_out):
        raise UserError(
            f"there are {len(groups)} images or patients, too few for train and {' and '.join(held_out)}: add more"
        )
    part = max(1, round(len(groups) / 10))
    of = {group: held_out[i // part] if i < part * len(held_out) else TRAIN for i, group in enumerate(groups)}
    return [replace(item, split=of[item.group]) for item in items]


def slug(words: str) -> str:
    """Return words as a part of a file name."""
    return re.sub(r"[^\w-]+", "_", words.strip().lower())


def split_in(path: str) -> str | None:
    """Return the split that a relative path names, the last one counting; None: it names none."""
    found = SPLIT_WORD.findall(path)
    return SPLITS_AS_CALLED[found[-1].lower()] if found else None
