"""Our layout, written: `images/`, `masks/` (PNG of 0 and 255), `anns/{split}.json`, and `source.json`, its marker."""

import io
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...deploy.errors import UserError
from ...deploy.files import inside, write_json
from ...deploy.pixels import SUFFIXES, read_image
from .items import Item
from .plane import is_medical, read_plane, to_grey
from .script import Prompts

MARKER = "source.json"


class Writer:
    """Collects samples into a folder; files go to disk at once, annotations at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: dict[str, list[dict[str, Any]]] = {}
        self._images: dict[str, tuple[Path, str, tuple[int, ...]]] = {}
        self._masks: set[str] = set()

    def add(self, item: Item, mask_name: str, mask: np.ndarray, said: Sequence[tuple[str, Prompts]]) -> None:
        """Write one mask, and its image where that is new, and note a sample for each split and sentences of `said`.

        Raises:
            UserError: two images or two masks of one name, a mask of another size than its image, a bad picture.
        """
        image_name, shape = self._image(item)
        if mask.shape != shape:
            (h, w), (mh, mw) = shape, mask.shape
            raise UserError(f"{item.image} is {w}x{h} but its mask {mask_name} is {mw}x{mh}: expected equal sizes")
        if mask_name in self._masks:
            raise UserError(f"two masks would be called {mask_name}, one of them of {item.image}: rename an image")
        self._masks.add(mask_name)
        self._target("masks", f"{mask_name}.png").write_bytes(_png(mask.astype(np.uint8) * 255))
        for split, prompts in said:
            entry = {"img_name": image_name, "mask_name": f"{mask_name}.png", "prompts": prompts}
            self.entries.setdefault(split, []).append(entry)

    def finish(self, about: Mapping[str, Any], copies: Mapping[str, str]) -> dict[str, Any]:
        """Write annotations and marker; `copies` says which split is the same as which. Return the marker's content."""
        entries = self.entries | {split: self.entries[of] for split, of in copies.items() if of in self.entries}
        (self.folder / "anns").mkdir()
        for split, listed in entries.items():
            write_json(self.folder / "anns" / f"{split}.json", listed)
        marker = {
            **about,
            "samples": {split: len(listed) for split, listed in entries.items()},
            "images": len(self._images),
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        write_json(self.folder / MARKER, marker)
        return marker

    def _image(self, item: Item) -> tuple[str, tuple[int, ...]]:
        """Return the image's name in our layout and (H, W), decoded once; the file is kept as published."""
        if item.name in self._images:
            path, name, shape = self._images[item.name]
            if path != item.image:
                raise UserError(f"{path} and {item.image} would both be called {item.name}: rename one of them")
            return name, shape
        if is_medical(item.image):
            values = to_grey(read_plane(item.image))
            name, shape = f"{item.name}.png", values.shape
            self._target("images", name).write_bytes(_png(values))
        else:
            suffix = item.image.suffix.lower()
            if suffix not in SUFFIXES:
                raise UserError(f"{item.image} is no picture that is read here: expected {', '.join(sorted(SUFFIXES))}")
            name, shape = f"{item.name}{suffix}", read_image(item.image).shape[:2]
            shutil.copyfile(item.image, self._target("images", name))
        self._images[item.name] = (item.image, name, shape)
        return name, shape

    def _target(self, part: str, name: str) -> Path:
        target = inside(self.folder / part, name)
        if target is None:
            raise UserError(f"the name {name!r} leads out of the folder: expected a plain file name")
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


def _png(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()
