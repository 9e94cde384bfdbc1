"""A mask as DICOM SEG (PS3.3 A.51), beside the series it was found in."""

import importlib.metadata
import io
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import UserError
from ..extras import load

SERIES_NUMBER = 900
_LABEL = 64  # characters that a long string (LO) holds
_EMPTY = (  # type 2: must be there, may be empty
    "AccessionNumber",
    "PatientBirthDate",
    "PatientID",
    "PatientName",
    "PatientSex",
    "ReferringPhysicianName",
    "StudyDate",
    "StudyID",
    "StudyTime",
)


def dicom_seg_bytes(sources: list[Any], labels: np.ndarray, prompts: Sequence[str], model: str, identity: str) -> bytes:
    """Return a DICOM SEG file of a binary segment for each prompt, found by an algorithm.

    A segment's type is DCM 111030, image region: a prompt is free words, which no code could stand for; they are its
    label, cut at 64 characters.

    Args:
        sources: pydicom data sets of the images, all of one series; or one of several frames.
        labels: class maps, uint8 (n, H, W), one for each image or frame: 0, or the number of a prompt, from 1.
        prompts: what was asked for.
        model: the bundle's name, for the device's model and the algorithm's name.
        identity: a hash of the model, for the device's serial number.

    Raises:
        UserError: highdicom absent, maps of another size, or sources that lack what a SEG must refer to.
    """
    highdicom = load("highdicom", "medical", "DICOM SEG")
    path = getattr(sources[0], "filename", "the source")
    rows, columns = int(sources[0].Rows), int(sources[0].Columns)
    if labels.shape[1:] != (rows, columns):
        raise UserError(f"the class maps are {labels.shape[1:]}, expected ({rows}, {columns}) as {path} has")
    try:
        made = highdicom.seg.Segmentation(
            source_images=[_completed(source) for source in sources],
            pixel_array=np.ascontiguousarray(labels, np.uint8),
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_described(highdicom, i, prompt, model) for i, prompt in enumerate(prompts, 1)],
            series_instance_uid=highdicom.UID(),
            series_number=SERIES_NUMBER,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer="vlseg",
            manufacturer_model_name=_text(model),
            software_versions=_version(),
            device_serial_number=_text(identity),
            content_label="VLSEG",
            series_description=_text(", ".join(prompts)),
            omit_empty_frames=False,
        )
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        reason = _first_line(error)
        raise UserError(f"cannot write a DICOM SEG for {path} ({reason}): ask for png or rle instead") from error
    # a prompt may be of any script, and so may what was copied from the source
    made.SpecificCharacterSet = "ISO_IR 192"
    buffer = io.BytesIO()
    made.save_as(buffer)
    return buffer.getvalue()


def _described(highdicom: Any, number: int, prompt: str, model: str) -> Any:
    codes = load("pydicom.sr.codedict", "medical", "DICOM SEG").codes
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=_text(prompt),
        segmented_property_category=codes.SCT.SpatialAndRelationalConcept,
        segmented_property_type=codes.DCM.ImageRegion,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=_text(model), version=_version(), family=codes.DCM.ArtificialIntelligence
        ),
    )


def _completed(source: Any) -> Any:
    """Return a copy of the source with what a SEG must have and the source need not."""
    # copy() would share the elements
    completed = load("pydicom", "medical", "DICOM SEG").Dataset()
    completed.update(source)
    completed.file_meta = source.file_meta
    for name in _EMPTY:
        if name not in completed:
            setattr(completed, name, "")
    # a flat picture has none, but highdicom reads no spacing without one
    if "PixelSpacing" in completed and "SliceThickness" not in completed:
        completed.SliceThickness = 0.0
    return completed


def _text(words: str) -> str:
    """Return words as a long string may hold them (PS3.5 6.2): no backslash, no control character, 64 at most."""
    plain = "".join(" " if unicodedata.category(one) == "Cc" or one == "\\" else one for one in words).strip()
    return plain[:_LABEL].strip() or "(no words)"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")


def _version() -> str:
    return importlib.metadata.version("vlseg")
