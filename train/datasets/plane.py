"""Pictures and label maps as numbers: Pillow's formats, and the two medical ones (MetaImage, NIfTI) of one slice."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from ...deploy.errors import UserError
from ...deploy.files import inside
from ...deploy.pixels import FORMATS

MEDICAL = (".mhd", ".nii", ".nii.gz")
MOST = 2**28
_META = {"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
         "MET_UINT": "u4", "MET_FLOAT": "f4", "MET_DOUBLE": "f8"}  # fmt: skip
_NIFTI = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}


def is_medical(path: Path) -> bool:
    """Is this a MetaImage header or a NIfTI file by its name?"""
    return path.name.lower().endswith(MEDICAL)


def read_plane(path: Path) -> np.ndarray:
    """Return the numbers of a medical file (H, W), rows from the top, in its own type; UserError for more slices."""
    try:
        return _read_meta(path) if path.name.lower().endswith(".mhd") else _read_nifti(path)
    except (OSError, EOFError, zlib.error, struct.error, ValueError, KeyError) as error:
        raise UserError(f"cannot read {path} as one slice ({error}): expected a 2-D MetaImage or NIfTI file") from error


def read_labels(path: Path) -> np.ndarray:
    """Return a label map, integers (H, W): a palette's indices, grey values, or a medical file's numbers.

    Raises:
        UserError: a file that cannot be read, or one in colours, which are not labels.
    """
    if is_medical(path):
        return np.rint(read_plane(path)).astype(np.int64)
    try:
        with Image.open(path, formats=FORMATS) as picture:
            values = np.asarray(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot read {path} as a label map ({error}): save it again") from error
    if values.ndim != 2:
        raise UserError(f"{path} has colours, expected a label map of grey or palette indices: save the indices")
    return values.astype(np.int64)


def to_grey(values: np.ndarray) -> np.ndarray:
    """Return uint8 (H, W): 0..255 as it is, anything else stretched from its minimum to its maximum."""
    low, high = float(values.min()), float(values.max())
    if low >= 0 and 1 < high <= 255:
        return np.rint(values).astype(np.uint8)
    scale = 255 / (high - low) if high > low else 0.0
    return np.rint((values - low) * scale).astype(np.uint8)


def _read_meta(path: Path) -> np.ndarray:
    pairs = (line.partition("=") for line in path.read_text(encoding="latin-1").splitlines())
    head = {key.strip(): value.strip() for key, _, value in pairs}
    raw = inside(path.parent, head["ElementDataFile"])
    if raw is None:
        raise ValueError(f"its data file {head['ElementDataFile']!r} lies elsewhere")
    big = "True" in (head.get("BinaryDataByteOrderMSB"), head.get("ElementByteOrderMSB"))
    dtype = np.dtype(_META[head["ElementType"]]).newbyteorder(">" if big else "<")
    data = raw.read_bytes()
    shape = _slice([int(side) for side in head["DimSize"].split()])
    if head.get("CompressedData") == "True":
        data = zlib.decompressobj().decompress(data, shape[0] * shape[1] * dtype.itemsize)
    return np.frombuffer(data, dtype, shape[0] * shape[1]).reshape(shape)


def _read_nifti(path: Path) -> np.ndarray:
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rb") as file:
        head = file.read(352)
        order = "<" if struct.unpack("<i", head[:4])[0] == 348 else ">"
        if struct.unpack(order + "i", head[:4])[0] != 348 or head[344:347] != b"n+1":
            raise ValueError("no NIfTI-1 header")
        rank, *sides = struct.unpack(order + "8h", head[40:56])
        dtype = np.dtype(_NIFTI[struct.unpack(order + "h", head[70:72])[0]]).newbyteorder(order)
        start, slope, shift = struct.unpack(order + "3f", head[108:120])
        shape = _slice(sides[:rank])
        file.seek(int(start))
        data = file.read(shape[0] * shape[1] * dtype.itemsize)
    values = np.frombuffer(data, dtype, shape[0] * shape[1]).reshape(shape)
    return values * slope + shift if slope and (slope, shift) != (1, 0) else values


def _slice(sides: list[int]) -> tuple[int, int]:
    """Return (H, W) of a file's axes, the fastest first; every further axis must be of length 1."""
    if len(sides) < 2 or any(side != 1 for side in sides[2:]) or not 0 < sides[0] * sides[1] <= MOST:
        raise ValueError(f"its axes are {sides}")
    return sides[1], sides[0]
