"""From image files to mask files: what `vlseg segment` does."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from .errors import UserError
from .files import atomic_write
from .pixels import SUFFIXES, read_image
from .segmenter import Segmenter


def segment_files(
    segmenter: Segmenter,
    source: Path | str,
    prompt: str,
    out: Path | str,
    threshold: float | None = None,
    overwrite: bool = False,
) -> Iterator[tuple[Path, float]]:
    """Write a mask for an image, or for every image of a folder, and yield each with its share of the area (0 to 1).

    A mask is a PNG of the image's size, 0 and 255. For a folder, `out` is a folder too and masks keep the image's stem.

    Raises:
        UserError: no such source, a folder without images, two images of one stem, a mask that is not PNG, a mask that
            would replace an image of the source, or one that exists without `overwrite`. All before the first mask.
    """
    pairs = _pairs(Path(source), Path(out))
    _check_targets(pairs, overwrite)
    for image, target in pairs:
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
        raise UserError(f"no images in {source}: expected files ending in {', '.join(sorted(SUFFIXES))}")
    by_stem: dict[str, Path] = {}
    for image in images:
        if image.stem in by_stem:
            raise UserError(
                f"{by_stem[image.stem]} and {image.name} would write one mask {image.stem}.png: rename one of them"
            )
        by_stem[image.stem] = image
    return [(image, out / f"{stem}.png") for stem, image in by_stem.items()]


def _check_targets(pairs: list[tuple[Path, Path]], overwrite: bool) -> None:
    sources = {image.resolve() for image, _ in pairs}
    for _, target in pairs:
        if target.resolve() in sources:
            raise UserError(f"the mask {target} would replace an image: choose another --out")
        if target.exists() and not overwrite:
            raise UserError(f"{target} exists already: choose another --out, or pass --overwrite")


def _png(mask: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(file, "PNG")
    return file.getvalue()
