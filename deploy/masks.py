"""From image files to mask files: what `vlseg segment` does."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from .errors import UserError
from .files import atomic_write
from .pixels import read_image
from .segmenter import Segmenter

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def segment_files(
    segmenter: Segmenter, source: Path, prompt: str, out: Path, threshold: float | None = None
) -> Iterator[tuple[Path, float]]:
    """Write a mask for an image, or for every image of a folder, and yield each with its share of the area (0 to 1).

    A mask is a PNG of the image's size, 0 and 255. For a folder, `out` is a folder too and masks keep the image's stem.
    Raises UserError for an absent source, a folder without images, two images of one stem, or a mask that is not PNG.
    """
    for image, target in _pairs(Path(source), Path(out)):
        mask = segmenter.segment(read_image(image), prompt, threshold)
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(target, _png(mask))
        yield target, float(mask.mean())


def _pairs(source: Path, out: Path) -> list[tuple[Path, Path]]:
    if not source.exists():
        raise UserError(f"there is no {source}: expected an image or a folder of images")
    if source.is_dir():
        return _folder_pairs(source, out)
    if out.suffix.lower() != ".png":
        raise UserError(f"--out {out} is not a PNG file: masks are written lossless, end the name in .png")
    return [(source, out)]


def _folder_pairs(source: Path, out: Path) -> list[tuple[Path, Path]]:
    images = sorted(path for path in source.iterdir() if path.suffix.lower() in SUFFIXES)
    if not images:
        raise UserError(f"no images in {source}: expected files ending in {', '.join(SUFFIXES)}")
    targets = [out / f"{path.stem}.png" for path in images]
    for image, target in zip(images, targets, strict=True):
        if targets.count(target) > 1:
            raise UserError(
                f"several images in {source} are called {image.stem}: their masks would overwrite each other"
            )
    return list(zip(images, targets, strict=True))


def _png(mask: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(file, "PNG")
    return file.getvalue()
