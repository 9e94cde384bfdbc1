"""DICOM and NIfTI from file to file: the mask where the picture shows it, on the grid and the scale of the source."""

import json

import numpy as np
import pytest

from vlseg.deploy.inputs.files import open_any
from vlseg.deploy.masks import segment_files
from vlseg.deploy.pixels import read_image
from vlseg.deploy.question import Question
from vlseg.deploy.segmenter import Segmenter

from .inputs.conftest import dataset

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")
nibabel = pytest.importorskip("nibabel")
RED = Question(["red"])


@pytest.fixture
def segmenter(toy_bundle):
    with Segmenter.open(toy_bundle, threads=1) as opened:
        yield opened


@pytest.fixture
def slice_file(tmp_path, colours):
    """A picture in colour, as an endoscope stores it, with a spacing."""
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "scan.dcm"
    dataset(colours[0], PixelSpacing=[0.5, 0.4]).save_as(path, enforce_file_format=True)
    return path


def run(segmenter, source, out, question=RED, **options):
    return list(segment_files(segmenter, [source], question, out, **options))


def test_dicom_in_dicom_seg_out(segmenter, slice_file, colours, tmp_path):
    [done] = run(segmenter, slice_file, tmp_path / "out.dcm")
    mask = segmenter.segment(colours[0], "red")
    assert done.mm2 == pytest.approx(mask.sum() * 0.5 * 0.4)
    seg = highdicom.seg.segread(tmp_path / "out.dcm")
    uid = pydicom.dcmread(slice_file).SOPInstanceUID
    back = seg.get_pixels_by_source_instance(source_sop_instance_uids=[uid], segment_numbers=[1])
    assert np.array_equal(back[0, ..., 0] > 0, mask)
    assert np.array_equal(pydicom.dcmread(tmp_path / "out.dcm").pixel_array.squeeze() > 0, mask)


def test_dicom_becomes_a_png_by_default_and_every_format_when_asked(segmenter, slice_file, colours, tmp_path):
    [done] = run(segmenter, slice_file, tmp_path / "a")
    assert [path.name for path in done.files] == ["scan.png"]
    mask = segmenter.segment(colours[0], "red")
    assert np.array_equal(read_image(done.files[0])[..., 0] > 0, mask)
    [done] = run(segmenter, slice_file, tmp_path / "b", formats=["png", "overlay", "rle", "dicom-seg"])
    assert [path.name for path in done.files] == ["scan.png", "scan.overlay.png", "scan.rle.json", "scan.seg.dcm"]


def test_a_folder_of_dicom_with_a_bad_one(segmenter, slice_file, tmp_path):
    whole = slice_file.read_bytes()
    (slice_file.parent / "IM0002").write_bytes(whole)
    (slice_file.parent / "bad.dcm").write_bytes(whole[:300])
    done = run(segmenter, slice_file.parent, tmp_path / "out", formats=["dicom-seg"])
    assert [(one.source.name, one.error is None) for one in done] == [
        ("IM0002", True),
        ("bad.dcm", False),
        ("scan.dcm", True),
    ]
    assert (tmp_path / "out" / "IM0002.seg.dcm").is_file()


def volume(tmp_path, affine):
    """A red object cannot be in gray values; the blue prompt of the toy answers to any light."""
    values = np.zeros((24, 20, 5), np.float32)
    values[3:11, 4:16, 1:4] = 700
    path = tmp_path / "volume.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


@pytest.mark.parametrize("turned", [np.diag([1.5, 2, 3, 1.0]), np.diag([-1.5, -2, 3, 1.0])])
def test_nifti_slice_by_slice(segmenter, tmp_path, turned):
    path = volume(tmp_path, turned)
    [done] = run(segmenter, path, tmp_path / "mask.nii.gz", Question(["red"], threshold=0.3))
    mask, source = nibabel.load(tmp_path / "mask.nii.gz"), nibabel.load(path)
    assert np.array_equal(mask.affine, source.affine) and mask.shape == source.shape
    expected = np.zeros(source.shape, bool)
    for picture in open_any(path):
        found = segmenter.segment(picture.pixels, "red", 0.3)
        place = (slice(None, None, -1), slice(None, None, -1)) if turned[0, 0] > 0 else (slice(None), slice(None))
        expected[(*place, picture.index)] = found.T
    assert np.array_equal(np.asarray(mask.dataobj) > 0, expected)
    assert done.mm2 == pytest.approx(expected.sum() * 1.5 * 2) and [area["index"] for area in done.areas] == [*range(5)]


def test_a_name_says_whether_it_is_packed(segmenter, tmp_path):
    path = volume(tmp_path, np.eye(4))
    run(segmenter, path, tmp_path / "mask.nii")
    run(segmenter, path, tmp_path / "mask.nii.gz")
    assert (tmp_path / "mask.nii.gz").read_bytes()[:2] == b"\x1f\x8b"
    plain, packed = (nibabel.load(tmp_path / name) for name in ("mask.nii", "mask.nii.gz"))
    assert np.array_equal(plain.dataobj, packed.dataobj)


def test_nifti_in_other_formats(segmenter, tmp_path):
    path = volume(tmp_path, np.eye(4))
    [done] = run(segmenter, path, tmp_path / "out", formats=["png", "rle", "nifti"])
    names = [f"volume_{i:04}.png" for i in range(5)] + ["volume.rle.json", "volume.nii.gz"]
    assert [one.name for one in done.files] == names
    assert len(json.loads(done.files[5].read_text())["images"]) == 5


def test_a_window_is_in_the_units_of_the_scanner(segmenter, tmp_path):
    values = np.full((40, 56), -500, np.int16)
    values[:20, :14] = 40
    dataset(values, RescaleSlope=1.0, RescaleIntercept=-1000.0).save_as(tmp_path / "ct.dcm", enforce_file_format=True)
    shares = [
        run(segmenter, tmp_path / "ct.dcm", tmp_path / f"{i}.png", Question(["red"], 0.3, window=window))[0].share
        for i, window in enumerate([(-1600.0, -900.0), (500.0, 900.0)])
    ]
    assert shares[0] > 0 and shares[1] == 0


def test_through_the_door(door, toy_bundle, slice_file, tmp_path):
    said = door("segment", toy_bundle, slice_file, "--prompt", "red", "--out", tmp_path / "out.dcm", "--json")
    assert said.code == 0 and " mm2" in said.err, said.err
    [row] = json.loads(said.out)
    assert row["mm2"] == pytest.approx(row["areas"][0]["pixels"] * 0.2) and row["mask"].endswith("out.dcm")
