"""NIfTI: a volume, slice by slice as a radiologist looks at it, and a volume of masks back on the same grid.

Slices are axial of the closest anatomical orientation, seen from the feet: the patient's front is up, the patient's
right is on the left.
"""

import struct
import zlib
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import UserError
from ..extras import load
from ..window import Window, apply_window
from .picture import Picture, Pictures

SUFFIXES = (".nii", ".nii.gz")
PERCENTILES = (0.5, 99.5)
"""What becomes black and white where no window is given, of the whole volume, so that its slices agree."""
VOXELS = 1_000_000_000
"""The largest volume that is read, 4 GB as float32: a few bytes of gzip may claim any size."""
_TO_MM = {"mm": 1.0, "meter": 1000.0, "micron": 0.001, "unknown": 1.0}


class Volume(NamedTuple):
    """A volume in RAS+ orientation (R, A, S), with what leads back to its file."""

    values: np.ndarray
    spacing: tuple[float, float, float]
    orientation: np.ndarray
    image: Any


def is_nifti(path: Path) -> bool:
    """Does the file's name end as NIfTI's do?"""
    return path.name.lower().endswith(SUFFIXES)


def open_nifti(path: Path | str, window: Window | None = None) -> Pictures:
    """Return the axial slices of a NIfTI volume, from the feet up; `window` (low, high) in the volume's own units.

    None is the volume's 0.5 and 99.5 percentiles.

    Raises:
        UserError: nibabel absent, not NIfTI, cut off, not of three dimensions, above `VOXELS`, in colour, or with NaN.
    """
    volume = read_volume(path)
    low, high = window or (float(x) for x in np.percentile(volume.values, PERCENTILES))
    read = partial(_slice, volume, Path(path), (low, high))
    return Pictures(Path(path), "nifti", volume.values.shape[2], read, volume)


def read_volume(path: Path | str) -> Volume:
    """Return a volume, float32; errors as `open_nifti`."""
    nibabel = load("nibabel", "medical", "NIfTI")
    damaged = (nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError, zlib.error, struct.error)
    damaged += (OSError, EOFError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, MemoryError)
    try:
        image = nibabel.load(path)
        shape = (*image.shape, 1, 1)[:3] if len(image.shape) < 3 else tuple(image.shape)
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) != 3 or not np.prod(shape) or image.get_data_dtype().fields:
            raise UserError(f"{path} is {image.shape} {image.get_data_dtype()}, expected one gray volume (x, y, z)")
        if np.prod(shape, dtype=np.float64) > VOXELS:
            raise UserError(f"{path} has {shape} voxels, more than {VOXELS:,}: crop it first")
        values = np.asarray(image.dataobj, np.float32).reshape(shape)
    except UserError:
        raise
    except damaged as error:
        raise UserError(f"cannot read {path} as NIfTI ({error}): it is damaged, or no NIfTI; save it again") from error
    if not np.isfinite(values).all():
        raise UserError(f"{path} holds NaN or infinite values, expected finite gray values: clean it first")
    try:
        orientation = nibabel.io_orientation(image.affine)
        unit = _TO_MM.get(image.header.get_xyzt_units()[0], 1.0)
    except damaged as error:
        raise UserError(f"cannot read the axes of {path} ({error}): it is damaged; save it again") from error
    zooms = [float(zoom) * unit for zoom in (*image.header.get_zooms(), 1.0, 1.0)[:3]]
    if sorted(orientation[:, 0].tolist()) != [0, 1, 2]:
        raise UserError(f"{path} does not say which way its axes point (a singular affine): write its affine anew")
    right, front, up = (zooms[int(np.flatnonzero(orientation[:, 0] == axis)[0])] for axis in range(3))
    return Volume(nibabel.apply_orientation(values, orientation), (right, front, up), orientation, image)


def to_slice(values: np.ndarray, index: int) -> np.ndarray:
    """Return one slice of an RAS+ volume as a picture (rows from the front, columns from the right)."""
    return values[::-1, ::-1, index].T


def from_slices(slices: np.ndarray, volume: Volume) -> np.ndarray:
    """Return slices (n, H, W) on the grid of the file that `volume` came from; the inverse of `to_slice`."""
    nibabel = load("nibabel", "medical", "NIfTI")
    standing = slices.transpose(2, 1, 0)[::-1, ::-1]
    back = nibabel.orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], volume.orientation)
    return nibabel.apply_orientation(standing, back).reshape(volume.image.shape)


def _slice(volume: Volume, path: Path, window: Window, index: int) -> Picture:
    gray = apply_window(to_slice(volume.values, index), *window)
    spacing = (volume.spacing[1], volume.spacing[0])
    return Picture(np.repeat(gray[..., None], 3, axis=2), path, "nifti", spacing, index, (), {"window": window})
