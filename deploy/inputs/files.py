"""One door for every file that holds pictures: PNG, JPEG, TIFF, DICOM, NIfTI."""

from functools import partial
from pathlib import Path

from PIL import Image

from ..errors import UserError
from ..pixels import SUFFIXES as PLAIN
from ..pixels import check_file, read_first, read_image
from ..window import Window
from .dicom import SUFFIXES as DICOM
from .dicom import is_dicom, open_dicom
from .nifti import is_nifti, open_nifti
from .picture import Picture, Pictures


def read_any(path: Path | str, index: int | None = None, window: Window | None = None) -> Picture:
    """Return one picture of a file as uint8 RGB, with its spacing in mm where the file says it.

    A plain picture has the very pixels of `pixels.read_image`. `index` chooses a frame or slice, from 0; None is the
    only one. `window` (low, high) becomes black and white in a gray picture of more than 8 bits; None is the default
    of `read_image`, `open_dicom` or `open_nifti`.

    Raises:
        UserError: what those functions raise, several pictures without a choice, or an index the file does not have.
    """
    found = open_any(path, window)
    if index is None and len(found) > 1:
        raise UserError(f"{path} holds {len(found)} pictures, expected one: choose an index from 0 to {len(found) - 1}")
    if not 0 <= (index or 0) < len(found):
        raise UserError(f"{path} has no picture {index}: it holds {len(found)}, counted from 0")
    return found.read(index or 0)


def open_any(path: Path | str, window: Window | None = None) -> Pictures:
    """Return the pictures of a file: one, the frames of a stack, or the slices of a volume; errors as `read_any`.

    NIfTI is known by its name, DICOM by its name or, where that is no picture's, by its first bytes. The rest is left
    to Pillow, and the first picture decoded at once.
    """
    path = Path(path)
    check_file(path)
    if is_nifti(path):
        return open_nifti(path, window)
    suffix = path.suffix.lower()
    if suffix in DICOM or (suffix not in PLAIN and is_dicom(path)):
        return open_dicom(path, window)
    first, count = read_first(path, window)
    return Pictures(path, "picture", count, partial(_plain, path, window, first))


def is_readable(path: Path) -> bool:
    """Does a file look like one with pictures, by its name or by DICOM's first bytes, whatever its name?

    A DICOMDIR is a list of files and no picture. What may not be read counts, so that it is named and not passed over.
    """
    if path.name.startswith(".") or path.name.upper() == "DICOMDIR" or not path.is_file():
        return False
    try:
        return path.suffix.lower() in PLAIN | DICOM or is_nifti(path) or is_dicom(path)
    except UserError:
        return True


def _plain(path: Path, window: Window | None, first: Image.Image, index: int) -> Picture:
    image = read_image(path, window, index) if index else first
    return Picture(image, path, index=index, meta={"window": window})
