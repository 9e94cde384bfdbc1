"""Files that a user hands over: read within limits, and spoken of by their own names."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from ..deploy.errors import UserError
from ..deploy.inputs.files import open_any
from ..deploy.inputs.picture import Picture
from ..deploy.pixels import FORMATS, read_mask

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 40_000_000


def open_picture(file: Path | str, index: int | None = None) -> tuple[Picture, int]:
    """Read a picture of a file, and how many there are; `index` None is the middle one.

    Raises:
        UserError: too large, or what reading raises, without the folder the page keeps uploads in.
    """
    path = Path(file)
    with _by_name(path):
        _check_size(path)
        pictures = open_any(path)
        picture = pictures.read(len(pictures) // 2 if index is None else index)
        _check_pixels(path, *picture.shape)
        return picture, len(pictures)


def open_mask(file: Path | str, shape: tuple[int, ...]) -> np.ndarray:
    """Read a mask, bool, for a picture of `shape` (H, W, ...).

    Raises:
        UserError: as `open_picture`, and a mask of another size.
    """
    path = Path(file)
    with _by_name(path):
        _check_size(path)
        mask = read_mask(path)
    if mask.shape != tuple(shape[:2]):
        raise UserError(
            f"the mask is {mask.shape[1]} x {mask.shape[0]} pixels and the picture {shape[1]} x {shape[0]}: "
            "give the mask of this picture"
        )
    return mask


def _check_size(path: Path) -> None:
    """Refuse by the size on disk and the header alone, before anything is decoded."""
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path} has more than {MAX_BYTES // 2**20} MiB: shrink it first")
    try:
        with Image.open(path, formats=FORMATS) as picture:
            width, height = picture.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return  # no plain picture, or a damaged one: reading it says what is wrong
    _check_pixels(path, height, width)


def _check_pixels(path: Path, height: int, width: int) -> None:
    if width * height > MAX_PIXELS:
        raise UserError(
            f"{path} has {width} x {height} pixels, this page takes {MAX_PIXELS // 10**6} million: shrink it, "
            "or use `vlseg segment`"
        )


@contextmanager
def _by_name(path: Path) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise type(error)(str(error).replace(str(path), path.name)) from error
