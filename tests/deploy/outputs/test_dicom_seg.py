"""DICOM SEG, read back with highdicom and with pydicom, and its area by the spacing."""

import io
import sys

import numpy as np
import pytest

from vlseg.deploy.errors import UserError
from vlseg.deploy.inputs.dicom import read_dataset
from vlseg.deploy.inputs.files import open_any
from vlseg.deploy.outputs.area import measure_area
from vlseg.deploy.outputs.dicom_seg import dicom_seg_bytes

from ..inputs.conftest import dataset

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")
RNG = np.random.default_rng(0)
POSITION = {
    "PixelSpacing": [0.5, 0.8],
    "SliceThickness": 2.0,
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "ImagePositionPatient": [0, 0, 0],
    "FrameOfReferenceUID": "1.2.3.4",
    "InstanceNumber": 1,
    "SeriesNumber": 1,
}


def source(tmp_path, values, **changes):
    dataset(values, **changes).save_as(tmp_path / "x.dcm", enforce_file_format=True)
    return read_dataset(tmp_path / "x.dcm")


def made(sources, labels, prompts=("a lesion",)):
    return dicom_seg_bytes(sources, labels, prompts, "toy", "0" * 64)


@pytest.mark.parametrize("changes", [POSITION, {}], ids=["in space", "secondary capture"])
def test_it_is_read_back(tmp_path, changes):
    data = source(tmp_path, RNG.integers(0, 4096, (13, 17), dtype=np.uint16), **changes)
    labels = (RNG.random((1, 13, 17)) < 0.3).astype(np.uint8)
    content = made([data], labels)
    plain = pydicom.dcmread(io.BytesIO(content))
    assert plain.Modality == "SEG" and np.array_equal(np.atleast_3d(plain.pixel_array).reshape(1, 13, 17), labels)
    assert plain.PatientID == data.PatientID and plain.StudyInstanceUID == data.StudyInstanceUID
    assert plain.SeriesInstanceUID != data.SeriesInstanceUID
    seg = highdicom.seg.segread(io.BytesIO(content))
    assert seg.number_of_segments == 1 and seg.get_segment_description(1).segment_label == "a lesion"
    back = seg.get_pixels_by_source_instance(source_sop_instance_uids=[data.SOPInstanceUID], segment_numbers=[1])
    assert np.array_equal(back[..., 0], labels)


def test_area_in_square_millimetres(tmp_path):
    data = source(tmp_path, RNG.integers(0, 4096, (13, 17), dtype=np.uint16), **POSITION)
    labels = np.zeros((1, 13, 17), np.uint8)
    labels[0, 2:7, 3:13] = 1
    seg = highdicom.seg.segread(io.BytesIO(made([data], labels)))
    rows, columns = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    picture = open_any(tmp_path / "x.dcm").read(0)
    assert measure_area(labels[0] > 0, picture.spacing).mm2 == pytest.approx(50 * 0.5 * 0.8)
    assert labels.sum() * rows * columns == pytest.approx(50 * 0.5 * 0.8)


def test_several_prompts_are_several_segments(tmp_path):
    data = source(tmp_path, RNG.integers(0, 4096, (13, 17), dtype=np.uint16), **POSITION)
    labels = RNG.integers(0, 3, (1, 13, 17)).astype(np.uint8)
    seg = highdicom.seg.segread(io.BytesIO(made([data], labels, ("liver", "spleen"))))
    assert [seg.get_segment_description(i).segment_label for i in (1, 2)] == ["liver", "spleen"]
    back = seg.get_pixels_by_source_instance(
        source_sop_instance_uids=[data.SOPInstanceUID], combine_segments=True, relabel=False
    )
    assert np.array_equal(back, labels)


@pytest.mark.parametrize("label", ["", "x" * 300, "back\\slash\x07 and\nlines", "\N{MICROSCOPE} \u05d0\u05d3\u05dd"])
def test_odd_prompts_become_labels(tmp_path, label):
    data = source(tmp_path, RNG.integers(0, 4096, (13, 17), dtype=np.uint16), **POSITION)
    seg = highdicom.seg.segread(io.BytesIO(made([data], np.ones((1, 13, 17), np.uint8), [label])))
    text = str(seg.get_segment_description(1).segment_label)
    assert 0 < len(text) <= 64 and "\\" not in text and text.isprintable()
    assert label.startswith("x") is (text == "x" * 64)


def test_an_empty_mask_is_a_file_too(tmp_path):
    data = source(tmp_path, RNG.integers(0, 4096, (13, 17), dtype=np.uint16), **POSITION)
    plain = pydicom.dcmread(io.BytesIO(made([data], np.zeros((1, 13, 17), np.uint8))))
    assert not plain.pixel_array.any()


def grouped(**sequences):
    made = pydicom.Dataset()
    for name, values in sequences.items():
        item = pydicom.Dataset()
        for key, value in values.items():
            setattr(item, key, value)
        setattr(made, name, [item])
    return made


def test_frames_of_one_file(tmp_path):
    shared = grouped(
        PixelMeasuresSequence={"PixelSpacing": [0.5, 0.8], "SliceThickness": 2.0},
        PlaneOrientationSequence={"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
    )
    places = [grouped(PlanePositionSequence={"ImagePositionPatient": [0, 0, 2.0 * i]}) for i in range(3)]
    data = source(
        tmp_path,
        RNG.integers(0, 256, (3, 13, 17), dtype=np.uint16),
        SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1",  # enhanced CT
        FrameOfReferenceUID="1.2.3.4",
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=places,
    )
    labels = (RNG.random((3, 13, 17)) < 0.3).astype(np.uint8)
    seg = highdicom.seg.segread(io.BytesIO(made([data], labels)))
    back = seg.get_pixels_by_source_frame(
        source_sop_instance_uid=data.SOPInstanceUID, source_frame_numbers=[1, 2, 3], segment_numbers=[1]
    )
    assert np.array_equal(back[..., 0], labels)


def test_frames_that_lie_nowhere_are_refused(tmp_path):
    """highdicom knows no place for the frames of an ultrasound clip."""
    values = RNG.integers(0, 256, (3, 13, 17), dtype=np.uint8)
    data = source(tmp_path, values, SOPClassUID="1.2.840.10008.5.1.4.1.1.3.1", FrameTime=40.0)
    with pytest.raises(UserError, match="ask for png or rle instead"):
        made([data], np.zeros((3, 13, 17), np.uint8))


def test_a_name_of_another_script_stays(tmp_path):
    values = RNG.integers(0, 4096, (13, 17), dtype=np.uint16)
    data = source(tmp_path, values, SpecificCharacterSet="ISO_IR 100", PatientName="M\u00fcller^J\u00f6rg", **POSITION)
    plain = pydicom.dcmread(io.BytesIO(made([data], np.ones((1, 13, 17), np.uint8))))
    assert str(plain.PatientName) == "M\u00fcller^J\u00f6rg"


def test_what_is_not_named_is_empty_and_what_must_be_is_said(tmp_path):
    data = source(tmp_path, RNG.integers(0, 4096, (13, 17), dtype=np.uint16), PatientName=None, PatientID=None)
    assert pydicom.dcmread(io.BytesIO(made([data], np.ones((1, 13, 17), np.uint8)))).PatientID in ("", None)
    assert "PatientName" not in data  # the source stays as it was
    del data.StudyInstanceUID
    with pytest.raises(UserError, match="StudyInstanceUID"):
        made([data], np.ones((1, 13, 17), np.uint8))


def test_maps_of_another_size(tmp_path):
    data = source(tmp_path, RNG.integers(0, 4096, (13, 17), dtype=np.uint16))
    with pytest.raises(UserError, match=r"expected \(13, 17\)"):
        made([data], np.ones((1, 17, 13), np.uint8))


def test_without_highdicom_the_extra_is_named(tmp_path, monkeypatch):
    data = source(tmp_path, RNG.integers(0, 4096, (13, 17), dtype=np.uint16))
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(UserError, match=r'DICOM SEG needs highdicom, .*pip install "vlseg\[medical\]"'):
        made([data], np.ones((1, 13, 17), np.uint8))
