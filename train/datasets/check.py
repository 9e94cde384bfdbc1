"""`vlseg data check`: what a data folder holds, and what in it would spoil a result."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from ...deploy.annotations import SPLITS, Sample, read_pair, read_plain, read_split
from ...deploy.errors import UserError
from .leaks import Fact, find_leaks
from .near import near_pairs, perceptual_hash

STRAY = 16
"""Objects of fewer pixels than this, beside a larger one, are strays."""
MOST = 50
"""Entries that a list of the report shows."""


@dataclass(frozen=True)
class Look:
    """One sample, decoded and measured: size (W, H), object pixels, objects, strays, centre, hash of the image."""

    sample: Sample
    split: str
    size: tuple[int, int]
    pixels: int
    objects: int
    strays: int
    centre: tuple[float, float]
    digest: np.ndarray

    @property
    def name(self) -> str:
        """Name the mask within its split."""
        return f"{self.split}/{self.sample.mask.name}"


def check(folder: Path | str, progress: Callable[[int, int], None] = lambda done, total: None) -> dict[str, Any]:
    """Return counts and findings on a data folder of either layout, every image and mask decoded once.

    The keys: `data`, `splits` (by name: samples, images, sizes, empty_masks, stray_masks, object_share), `unreadable`,
    `empty`, `stray`, `duplicates` (pairs of images of different splits that are nearly the same), `shared` (image files
    that are in two splits), `leaks` (sentences that give the answer away) and `findings`, one sentence for each. Lists
    hold at most 50 entries; the counts beside them are of all.

    Raises:
        UserError: no such folder, annotations that cannot be read or name missing files; or scipy is not installed.
    """
    if importlib.util.find_spec("scipy") is None:
        raise UserError('objects in masks are counted with scipy, which is not installed: pip install "vlseg[score]"')
    folder = Path(folder)
    samples = _read(folder)
    total, done = sum(map(len, samples.values())), 0
    looks, unreadable = [], []
    for split, listed in samples.items():
        for sample in listed:
            try:
                looks.append(_look(sample, split))
            except UserError as error:
                unreadable.append({"mask": f"{split}/{sample.mask.name}", "why": str(error)})
            done += 1
            progress(done, total)
    return _report(folder, samples, looks, unreadable)


def _read(folder: Path) -> dict[str, list[Sample]]:
    if folder.is_dir() and not (folder / "anns").exists():
        return {split: read_plain(folder, split, "") for split in SPLITS}
    known = sorted(path.stem for path in (folder / "anns").glob("*.json"))
    return {split: read_split(folder, split) for split in known or ["train"]}


def _look(sample: Sample, split: str) -> Look:
    from scipy import ndimage

    image, mask = read_pair(sample)
    parts, count = cast(tuple[np.ndarray, int], ndimage.label(mask, np.ones((3, 3))))
    sizes = np.bincount(parts.ravel())[1:]
    strays = int(sizes[sizes < STRAY].sum()) if count and sizes.max() >= STRAY else 0
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    centre = (float(columns.mean() / width), float(rows.mean() / height)) if count else (0.5, 0.5)
    pixels, objects = int(sizes.sum()), int((sizes >= STRAY).sum()) if strays else count
    return Look(sample, split, (width, height), pixels, objects, strays, centre, perceptual_hash(image))


def _report(
    folder: Path, samples: Mapping[str, Sequence[Sample]], looks: Sequence[Look], unreadable: list[dict[str, str]]
) -> dict[str, Any]:
    stray = [{"mask": look.name, "pixels": look.strays} for look in looks if look.strays]
    empty = [look.name for look in looks if not look.pixels]
    shared = _shared(samples)
    duplicates = _duplicates(looks)
    leaks = find_leaks([_fact(look) for look in looks])
    report = {
        "data": folder.name,
        "splits": {split: _split(listed, [x for x in looks if x.split == split]) for split, listed in samples.items()},
        "unreadable": unreadable[:MOST],
        "empty": empty[:MOST],
        "stray": stray[:MOST],
        "shared": shared,
        "duplicates": duplicates[:MOST],
        "leaks": leaks,
    }
    counts = {"unreadable": len(unreadable), "empty": len(empty), "stray": len(stray), "duplicates": len(duplicates)}
    return report | {"counts": counts, "findings": _findings(counts, shared, leaks, len(looks))}


def _split(samples: Sequence[Sample], looks: Sequence[Look]) -> dict[str, Any]:
    sizes = sorted({look.size for look in looks}, key=lambda size: size[0] * size[1])
    shares = [look.pixels / (look.size[0] * look.size[1]) for look in looks if look.pixels]
    return {
        "samples": len(samples),
        "images": len({sample.image for sample in samples}),
        "sizes": {"smallest": sizes[0], "largest": sizes[-1], "different": len(sizes)} if sizes else None,
        "empty_masks": sum(not look.pixels for look in looks),
        "stray_masks": sum(look.strays > 0 for look in looks),
        "object_share": [round(float(np.quantile(shares, q)), 5) for q in (0, 0.5, 1)] if shares else None,
    }


def _shared(samples: Mapping[str, Sequence[Sample]]) -> list[dict[str, Any]]:
    images = {split: {sample.image for sample in listed} for split, listed in samples.items()}
    names = sorted(images)
    pairs = [(a, b, len(images[a] & images[b])) for i, a in enumerate(names) for b in names[i + 1 :]]
    return [{"splits": [a, b], "images": count} for a, b, count in pairs if count]


def _duplicates(looks: Sequence[Look]) -> list[dict[str, Any]]:
    """Return near pairs over splits; one look for each image file, and none where a file is itself in both."""
    once = list({(look.split, look.sample.image): look for look in looks}.values())
    if not once:
        return []
    pairs = near_pairs(np.stack([look.digest for look in once]), [look.split for look in once])
    return [
        {"a": f"{once[i].split}/{once[i].sample.name}", "b": f"{once[j].split}/{once[j].sample.name}", "bits": bits}
        for i, j, bits in pairs
        if once[i].sample.image != once[j].sample.image
    ]


def _fact(look: Look) -> Fact:
    share = look.pixels / (look.size[0] * look.size[1])
    return Fact(look.split, look.sample.name, look.sample.prompts, share, look.objects, look.centre)


def _findings(
    counts: Mapping[str, int], shared: list[dict[str, Any]], leaks: list[dict[str, Any]], total: int
) -> list[str]:
    said = [
        (counts["unreadable"], "samples cannot be read: training stops at them, mend or remove them"),
        (counts["empty"], f"of {total} masks are empty: say so beside a score, for Dice is 1 where nothing is found"),
        (counts["stray"], f"of {total} masks have objects of under {STRAY} pixels beside a larger one: look at them"),
        (counts["duplicates"], "pairs of nearly the same image lie in different splits: a test score is too high"),
    ]
    lines = [f"{count} {words}" for count, words in said if count]
    lines += [f"{s['images']} images are both in {s['splits'][0]} and in {s['splits'][1]}" for s in shared]
    by_what = {what: [leak for leak in leaks if leak["what"] == what] for what in _TOLD}
    return lines + [_leak_line(what, found) for what, found in by_what.items() if found]


_TOLD = {
    "size": "tell the size: such words explain up to {share:.0%} of how it varies",
    "number": "tell the number: such words explain up to {share:.0%} of how it varies",
    "place": "tell the place: such words explain up to {share:.0%} of how it varies",
    "empty mask": "tell up to {share:.0%} of the empty masks by a sentence that no other mask has",
    "same text in two splits": "have, for up to {share:.0%} of the samples outside train, a text that one in train has",
}


def _leak_line(what: str, leaks: Sequence[Mapping[str, Any]]) -> str:
    keys, most = ", ".join(leak["key"] for leak in leaks), max(leaks, key=lambda leak: leak["share"])
    told = _TOLD[what].format(share=most["share"])
    return f'prompts {keys} {told} ("{most["example"]}"): report the keys that do not beside them'
