"""DICOM: stored values to the picture that a reader of the modality would see (PS3.3 C.7.6.3, C.11).

Rescale, then window, then inversion for MONOCHROME1; colour through pydicom. Nothing about the patient is kept.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import UserError
from ..extras import load
from ..window import Window, apply_window
from .dicom_facts import Voi, rescale_of, spacing_of, voi_of
from .picture import Picture, Pictures

SUFFIXES = frozenset({".dcm", ".dicom"})
SPOILT = (AttributeError, LookupError, ValueError, TypeError, RuntimeError, OSError, ArithmeticError, AssertionError)
SPOILT += (EOFError, MemoryError, struct.error, zlib.error)
_PREAMBLE, _MAGIC = 128, b"DICM"
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_PLAIN_SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")  # nothing is compressed
_GRAY = ("MONOCHROME1", "MONOCHROME2")


def is_dicom(path: Path) -> bool:
    """Does the file begin as DICOM (PS3.10) does? Raises UserError where it may not be read."""
    try:
        with open(path, "rb") as file:
            return file.read(_PREAMBLE + len(_MAGIC))[_PREAMBLE:] == _MAGIC
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): get the right to read it") from error


def read_dataset(path: Path | str) -> Any:
    """Return a DICOM file as pydicom's data set, pixels not decoded.

    Raises:
        UserError: pydicom absent, not DICOM, cut off, without pixels, or a picture above Pillow's size guard.
    """
    pydicom = load("pydicom", "medical", "DICOM")
    with _reading(path):
        data = pydicom.dcmread(path)
        rows, columns = int(data.get("Rows") or 0), int(data.get("Columns") or 0)
        modality = str(data.get("Modality") or "no modality")
    if not rows * columns or not any(name in data for name in _PIXELS):
        raise UserError(f"{path} is DICOM without pixels ({modality}), expected an image: choose another file")
    # Pillow warns at its guard and refuses at twice that; here is one picture, decoded by another library.
    if (guard := Image.MAX_IMAGE_PIXELS) and rows * columns > 2 * guard:
        raise UserError(f"{path} is larger than twice Pillow's guard of {guard} pixels: shrink it")
    return data


def open_dicom(path: Path | str, window: Window | None = None) -> Pictures:
    """Return the frames of a DICOM file; `window` (low, high) in the units after rescale (Hounsfield units for CT).

    None is the file's own window, its first, else its own minimum and maximum, padding left out.

    Raises:
        UserError: as `read_dataset`; when a picture is read, a transfer syntax without a decoder, an unknown
            photometric interpretation, damaged pixels, NaN, or a window for a picture in colour.
    """
    data = read_dataset(path)
    with _reading(path):
        count = int(data.get("NumberOfFrames") or 1)
    return Pictures(Path(path), "dicom", count, partial(_picture, data, Path(path), window), data)


@contextmanager
def _reading(path: Path | str) -> Iterator[None]:
    """Turn whatever a spoilt data set makes of pydicom, or of a number that is none, into one sentence."""
    errors = load("pydicom.errors", "medical", "DICOM")
    try:
        yield
    except UserError:
        raise
    except errors.InvalidDicomError as error:
        raise UserError(f"cannot read {path} as DICOM (no DICM after {_PREAMBLE} bytes): export it again") from error
    except (*SPOILT, errors.BytesLengthException) as error:
        raise UserError(f"cannot read {path} as DICOM ({error}): damaged, or no DICOM; export it again") from error


def _picture(data: Any, path: Path, window: Window | None, index: int) -> Picture:
    with _reading(path):
        return _seen(data, path, window, index)


def _seen(data: Any, path: Path, window: Window | None, index: int) -> Picture:
    values = _decode(data, path, index)
    photometric = str(data.get("PhotometricInterpretation") or "")
    if values.ndim == 3:
        pixels, shown = _colour(values, path, window), None
    elif photometric in _GRAY:
        gray, shown = _gray(data, values, path, window, index)
        gray = 255 - gray if photometric == "MONOCHROME1" else gray
        pixels = np.repeat(gray[..., None], 3, axis=2)
    else:
        raise UserError(f"{path} has photometric interpretation {photometric!r}, expected gray or colour: convert it")
    spacing, notes = spacing_of(data, index)
    meta = {"window": shown, "photometric": photometric, "modality": str(data.get("Modality") or "")}
    return Picture(pixels, path, "dicom", spacing, index, notes, meta)


def _decode(data: Any, path: Path, index: int) -> np.ndarray:
    """Return one frame, (H, W) or, in colour, RGB (H, W, 3)."""
    tools = load("pydicom.pixels", "medical", "DICOM")
    try:
        values = tools.pixel_array(data, index=index)
        if data.get("PhotometricInterpretation") == "PALETTE COLOR":
            return tools.apply_color_lut(values, data)
        return values
    except SPOILT as error:
        syntax = getattr(getattr(data, "file_meta", None), "TransferSyntaxUID", None)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"cannot decode the pixels of {path} (transfer syntax {getattr(syntax, 'name', syntax)}; {reason}): "
            + ("export it again" if syntax in _PLAIN_SYNTAXES else "save it uncompressed")
        ) from error


def _colour(values: np.ndarray, path: Path, window: Window | None) -> np.ndarray:
    """Return uint8 RGB (H, W, 3); colour of 16 bits keeps its upper 8."""
    if window:
        raise UserError(f"{path} is in colour, and a window is for gray pictures: leave the window out")
    if values.shape[2] != 3 or values.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{path} has {values.dtype} pixels of {values.shape[2]} channels, expected RGB of 8 or 16 bits")
    return np.ascontiguousarray(values if values.dtype == np.uint8 else (values >> 8).astype(np.uint8))


def _gray(
    data: Any, values: np.ndarray, path: Path, window: Window | None, index: int
) -> tuple[np.ndarray, Window | None]:
    """Return uint8 (H, W), and the window (low, high) that made it; None for a table of the file."""
    tools = load("pydicom.pixels", "medical", "DICOM")
    scale = rescale_of(data, index)
    rescaled = values * scale[0] + scale[1] if scale else tools.apply_modality_lut(values, data)
    rescaled = np.asarray(rescaled, np.float64)
    if not np.isfinite(rescaled).all():
        raise UserError(f"{path} holds NaN or infinite values, expected finite gray values: clean it first")
    if window:
        return apply_window(rescaled, *window), window
    if data.get("VOILUTSequence"):
        bits = int(data.VOILUTSequence[0].LUTDescriptor[2])
        looked_up = tools.apply_voi(rescaled.astype(np.int64), data)
        return apply_window(looked_up.astype(np.float64), 0, 2**bits - 1), None
    if voi := voi_of(data, index):
        return _voi(rescaled, voi), voi.limits()
    padding = data.get("PixelPaddingValue")
    seen = rescaled[values != padding] if padding is not None else rescaled
    limits = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 0.0)
    return apply_window(rescaled, *limits), limits


def _voi(rescaled: np.ndarray, voi: Voi) -> np.ndarray:
    if voi.function != "SIGMOID":
        return apply_window(rescaled, *voi.limits())
    share = 0.5 * np.tanh(2 * (rescaled - voi.centre) / voi.width) + 0.5
    return np.rint(255 * share).astype(np.uint8)
