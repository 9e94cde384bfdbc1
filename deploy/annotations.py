"""The data people have: a folder of images and masks, with sentences about them.

Two layouts: the community's (`images/ masks/ anns/{train,val,test}.json`, each entry naming an image, a mask and
prompts p0..pN, p0 being empty), and a plain folder (`images/ masks/` with equal stems, and one prompt for all or a
report for each in `reports/*.txt`).
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from .errors import UserError
from .files import inside, read_json
from .pixels import SUFFIXES, read_image, read_mask

SPLITS = ("train", "val", "test")
RANDOM = "random"
REPORTS = "reports"


@dataclass(frozen=True)
class Sample:
    """One image with its mask and what can be said about it.

    Attributes:
        image: path of the picture.
        mask: path of the mask.
        prompts: by key, a sentence or a list of alternatives.
        name: the image's name within `images/`, without suffix.
        absent: what is said is not in the image, whatever the mask holds: the answer is an empty one.
    """

    image: Path
    mask: Path
    prompts: dict[str, str | list[str]]
    name: str
    absent: bool = False


def read_samples(folder: Path | str, split: str, prompt: str | None = None) -> list[Sample]:
    """Return one split of a folder of either layout; `prompt` is the sentence of a plain folder.

    Raises:
        UserError: as `read_split` and `read_plain`; a plain folder without a prompt, or annotations together with one.
    """
    if (Path(folder) / "anns").exists() and prompt is None:
        return read_split(folder, split)
    if (Path(folder) / "anns").exists():
        raise UserError(
            f"{folder} has annotations with prompts of its own, so a sentence for all is not used: leave it out"
        )
    return read_plain(folder, split, prompt)


def read_split(folder: Path | str, split: str) -> list[Sample]:
    """Return the samples of `anns/{split}.json`, in its order.

    Raises:
        UserError: no such folder or split (the known ones are named), an empty or malformed split, an entry that
            names a missing file or one outside its folder.
    """
    folder = _existing(Path(folder))
    known = sorted(path.stem for path in (folder / "anns").glob("*.json"))
    if not known:
        raise UserError(
            f"{folder} has no anns/*.json, expected images/, masks/ and anns/train.json, val.json, test.json"
        )
    if split not in known:
        raise UserError(f"{folder} has no split {split!r}; known: {', '.join(known)}")
    source = folder / "anns" / f"{split}.json"
    entries = read_json(source)
    if not isinstance(entries, list):
        raise UserError(
            f"{source} holds a {type(entries).__name__}, expected a list of {{img_name, mask_name, prompts}}"
        )
    if not entries:
        raise UserError(f"{source} is an empty split, expected at least one entry: choose one of {', '.join(known)}")
    return [_sample(folder, source, i, entry) for i, entry in enumerate(entries)]


def read_plain(folder: Path | str, split: str, prompt: str | None) -> list[Sample]:
    """Return one split of a plain folder, `prompt` being p1 of every sample, or else its report; p0 is empty.

    The split is made here, always the same: names in the order of their hash, the first 80 % `train`, then 10 % `val`
    and 10 % `test`, each at least one; `all` is everything, by name.

    Raises:
        UserError: no such folder or split, neither prompt nor reports, no images, images and masks that do not pair, an
            image without a report.
    """
    folder = _existing(Path(folder))
    if prompt is None and not (folder / REPORTS).is_dir():
        raise UserError(
            f"{folder} has no anns/, so it is a plain folder of images/ and masks/: give the prompt they share, "
            f"or a text file for each image in {REPORTS}/"
        )
    if split not in (*SPLITS, "all"):
        raise UserError(f"{folder} has no split {split!r}; known: {', '.join((*SPLITS, 'all'))}")
    images, masks = _by_stem(folder / "images"), _by_stem(folder / "masks")
    for here, there, kind in ((images, masks, "mask"), (masks, images, "image")):
        if lone := sorted(here.keys() - there.keys()):
            raise UserError(
                f"{here[lone[0]]} has no {kind} of the same stem ({len(lone)} such), expected pairs: add it"
            )
    names = _share(sorted(images), split)
    if not names:
        raise UserError(
            f"{folder} has {len(images)} images, too few for a split {split!r}: at least 3 are needed, or use 'all'"
        )
    said = {name: _report(folder / REPORTS / f"{name}.txt") if prompt is None else prompt for name in names}
    return [Sample(images[name], masks[name], {"p0": "", "p1": said[name]}, name) for name in names]


def choose_prompt(sample: Sample, key: str, seed: int = 0) -> str:
    """Return the sentence that `key` means for this sample: always the same for the same name, key and seed.

    Of a list of alternatives one is chosen by hash. The key `random` chooses among the keys but p0, which is empty.

    Raises:
        UserError: no such key (the known ones are named).
    """
    known = sorted(sample.prompts, key=lambda name: (len(name), name))
    if key == RANDOM:
        keys = [name for name in known if name != "p0"]
        if not keys:
            raise UserError(f"{sample.name} has no prompt but p0, so none can be drawn: use p0")
        return _alternative(sample, keys[_draw(len(keys), sample.name, key, seed)], seed)
    if key not in sample.prompts:
        raise UserError(f"{sample.name} has no prompt key {key!r}; known: {', '.join([*known, RANDOM])}")
    return _alternative(sample, key, seed)


def read_pair(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Return the image, uint8 (H, W, 3), and its mask, bool (H, W): empty where what is said is absent.

    Raises:
        UserError: a file that cannot be read, or two of different sizes.
    """
    image, mask = read_image(sample.image), read_mask(sample.mask)
    if image.shape[:2] != mask.shape:
        (h, w), (mh, mw) = image.shape[:2], mask.shape
        raise UserError(
            f"{sample.image} is {w}x{h} but its mask {sample.mask} is {mw}x{mh}: expected equal sizes, redo one"
        )
    return image, mask & (not sample.absent)


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise UserError(f"no data folder {folder}: expected one with images/, masks/ and anns/")
    return folder


def _sample(folder: Path, source: Path, index: int, entry: Any) -> Sample:
    where = f"{source}, entry {index}"
    if not isinstance(entry, dict) or not {"img_name", "mask_name", "prompts"} <= entry.keys():
        raise UserError(f"{where} is not {{img_name, mask_name, prompts}}: correct the annotation")
    image = _named(folder / "images", entry["img_name"], where)
    mask = _named(folder / "masks", entry["mask_name"], where)
    prompts = entry["prompts"]
    if not isinstance(prompts, dict) or not prompts or not all(map(_is_prompt, prompts.values())):
        raise UserError(f"{where}: prompts must map keys such as p1 to a sentence or a list of sentences: correct it")
    return Sample(image, mask, prompts, PurePosixPath(entry["img_name"]).with_suffix("").as_posix())


def _named(folder: Path, name: Any, where: str) -> Path:
    if not isinstance(name, str):
        raise UserError(f"{where} names a file by {name!r}, expected a file name as text")
    path = inside(folder, name)
    if path is None:
        raise UserError(f"{where} names {name!r}, which is outside {folder}: expected a file inside it")
    if not path.is_file():
        raise UserError(f"{where} names {name!r}, but there is no {path}: add the file or remove the entry")
    return path


def _is_prompt(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(text, str) for text in value)
    return isinstance(value, str)


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: expected images/ and masks/ with files of equal stems")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise UserError(f"{found[path.stem]} and {path} have the same stem, expected one file for each: rename one")
        found[path.stem] = path
    return found


def _report(path: Path) -> str:
    """Return a report on one line."""
    try:
        return " ".join(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}): expected a text file for each image, in UTF-8") from error


def _share(names: list[str], split: str) -> list[str]:
    if split == "all":
        return names
    if len(names) < 3:
        return []
    shuffled = sorted(names, key=lambda name: _digest(name))
    part = max(1, len(names) // 10)
    val, test = len(names) - 2 * part, len(names) - part
    return sorted({"train": shuffled[:val], "val": shuffled[val:test], "test": shuffled[test:]}[split])


def _alternative(sample: Sample, key: str, seed: int) -> str:
    value = sample.prompts[key]
    return value if isinstance(value, str) else value[_draw(len(value), sample.name, key, seed)]


def _draw(count: int, *of: str | int) -> int:
    return int(_digest(*of), 16) % count


def _digest(*of: str | int) -> str:
    return hashlib.blake2b(json.dumps(of).encode(), digest_size=8).hexdigest()
