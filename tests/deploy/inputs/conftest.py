"""DICOM files as scanners write them, small and drawn."""

import numpy as np
import pytest


def dataset(values: np.ndarray, **changes):
    """Return a DICOM data set of gray (H, W), frames (n, H, W) or colour (H, W, 3); `changes` set or, None, delete."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = SecondaryCaptureImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.StudyInstanceUID, data.SeriesInstanceUID = generate_uid(), generate_uid()
    data.Modality, data.PatientName, data.PatientID = "OT", "Secret^Name", "42"
    colour = values.ndim == 3 and values.shape[2] == 3
    if values.ndim == 3 and not colour:
        data.NumberOfFrames = len(values)
    data.Rows, data.Columns = values.shape[:2] if colour else values.shape[-2:]
    data.SamplesPerPixel = 3 if colour else 1
    if colour:
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = values.dtype.itemsize * 8
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(values.dtype.kind == "i")
    data.PixelData = values.tobytes()
    data["PixelData"].VR = "OB" if values.dtype.itemsize == 1 else "OW"
    for name, value in changes.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    return data


@pytest.fixture
def dicom(tmp_path):
    """A function that writes `dataset` to a file and returns its path."""

    def write(values: np.ndarray, name: str = "x.dcm", **changes):
        dataset(values, **changes).save_as(tmp_path / name, enforce_file_format=True)
        return tmp_path / name

    return write
