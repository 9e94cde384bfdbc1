"""A volume of masks as NIfTI, on the grid of the volume they were found in."""

import gzip

import numpy as np

from ..extras import load
from ..inputs.nifti import Volume, from_slices


def nifti_bytes(labels: np.ndarray, volume: Volume, packed: bool = False) -> bytes:
    """Return a NIfTI file, uint8, of class maps (n, H, W), one for each slice of `volume`, in its order.

    Shape, affine and its codes are those of the volume's file; `packed` with gzip, as `.nii.gz` says.
    """
    nibabel = load("nibabel", "medical", "NIfTI")
    values = np.ascontiguousarray(from_slices(labels, volume), np.uint8)
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_xyzt_units(*volume.image.header.get_xyzt_units())
    made = nibabel.Nifti1Image(values, volume.image.affine, header)
    # setting the affine would forget which of the two forms the file trusts
    made.set_sform(volume.image.get_sform(), int(volume.image.header["sform_code"]))
    made.set_qform(volume.image.get_qform(), int(volume.image.header["qform_code"]))
    return gzip.compress(made.to_bytes(), mtime=0) if packed else made.to_bytes()
