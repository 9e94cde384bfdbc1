"""Stored values to what a reader of the modality would see, against pydicom and the standard's formulas."""

import numpy as np
import pytest

from vlseg.deploy.errors import UserError
from vlseg.deploy.inputs.dicom import open_dicom
from vlseg.deploy.inputs.files import open_any, read_any

pydicom = pytest.importorskip("pydicom")
RNG = np.random.default_rng(0)
VALUES = RNG.integers(-1000, 3000, (13, 17), dtype=np.int16)


def gray(path, **options):
    pixels = read_any(path, **options).pixels
    assert pixels.dtype == np.uint8 and (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def test_without_a_window_its_own_range_is_seen(dicom):
    expected = np.rint((VALUES - float(VALUES.min())) * 255 / (float(VALUES.max()) - VALUES.min()))
    assert np.array_equal(gray(dicom(VALUES)), expected)


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("width", [1.0, 2.0, 350.0, 4000.5])
def test_windows_are_pydicom_s(dicom, function, width):
    changes = {"WindowCenter": 40.0, "WindowWidth": width, "RescaleSlope": 1.5, "RescaleIntercept": -20.0}
    path = dicom(VALUES, **changes, **({"VOILUTFunction": function} if function else {}))
    data = pydicom.dcmread(path)
    rescaled = pydicom.pixels.apply_rescale(data.pixel_array, data)
    with np.errstate(over="ignore"):
        windowed = pydicom.pixels.apply_windowing(rescaled, data)
    # pydicom spreads a window over the range that the stored bits can reach
    low, high = (-32768 * 1.5 - 20, 32767 * 1.5 - 20)
    expected = (windowed - low) / (high - low) * 255
    if width == 1 and function != "LINEAR_EXACT" and function != "SIGMOID":
        expected = np.where(rescaled > 39.5, 255, 0)
    assert np.abs(gray(path) - expected).max() <= 0.5 + 1e-6


def test_a_window_of_the_user_s_goes_first(dicom):
    path = dicom(VALUES, WindowCenter=1.0, WindowWidth=2.0, RescaleSlope=2.0, RescaleIntercept=-100.0)
    hounsfield = VALUES * 2.0 - 100
    assert np.array_equal(gray(path, window=(-160, 240)), np.rint((hounsfield.clip(-160, 240) + 160) * 255 / 400))


def test_the_first_of_several_windows(dicom):
    many = dicom(VALUES, "a.dcm", WindowCenter=[40.0, 400.0], WindowWidth=[350.0, 2000.0])
    one = dicom(VALUES, "b.dcm", WindowCenter=40.0, WindowWidth=350.0)
    assert np.array_equal(gray(many), gray(one)) and read_any(many).meta["window"] == (-135.0, 214.0)


def test_a_centre_of_zero_is_a_centre(dicom):
    path = dicom(VALUES, WindowCenter=0.0, WindowWidth=100.0, VOILUTFunction="LINEAR_EXACT")
    assert read_any(path).meta["window"] == (-50.0, 50.0)


def test_monochrome1_is_turned_into_light(dicom):
    dark, light = dicom(VALUES, "a.dcm", PhotometricInterpretation="MONOCHROME1"), dicom(VALUES, "b.dcm")
    assert np.array_equal(gray(dark), 255 - gray(light))


def test_padding_does_not_take_the_range(dicom):
    values = np.full((8, 8), 100, np.int16)
    values[2:6, 2:6] = np.arange(16).reshape(4, 4) + 1000
    values[0] = -2000
    seen = gray(dicom(values, PixelPaddingValue=-2000))
    assert (seen[0] == 0).all() and seen[7, 7] == 0 and seen[5, 5] == 255


def test_a_flat_picture_is_black(dicom):
    assert not gray(dicom(np.full((4, 4), 7, np.int16))).any()
    assert not gray(dicom(np.full((4, 4), 7, np.int16), PixelPaddingValue=7)).any()


def test_a_table_of_values_is_looked_up(dicom):
    table = pydicom.Dataset()
    table.LUTDescriptor = [256, 0, 8]
    table.add_new("LUTData", "OW", np.arange(255, -1, -1, dtype="<u2").tobytes())
    values = RNG.integers(0, 256, (9, 11), dtype=np.uint8)
    assert np.array_equal(gray(dicom(values, VOILUTSequence=[table])), 255 - values)


def test_colour(dicom):
    values = RNG.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    assert np.array_equal(read_any(dicom(values)).pixels, values)
    with pytest.raises(UserError, match="in colour"):
        read_any(dicom(values), window=(0, 9))


@pytest.mark.parametrize("name", ["palette_color", "ybr_color", "jpeg2k"])
def test_colour_of_other_kinds_is_pydicom_s(name):
    try:
        path = pydicom.examples.get_path(name)
    except (ValueError, OSError) as error:
        pytest.skip(f"pydicom's example {name} is not on this machine: {error}")
    data = pydicom.dcmread(path)
    expected = pydicom.pixels.pixel_array(data, index=0)
    if data.PhotometricInterpretation == "PALETTE COLOR":
        expected = pydicom.pixels.apply_color_lut(expected, data)
        expected = (expected >> 8).astype(np.uint8) if expected.dtype == np.uint16 else expected
    assert np.array_equal(read_any(path, index=0).pixels, expected)


def test_frames_one_by_one(dicom):
    values = RNG.integers(0, 4000, (5, 13, 17), dtype=np.uint16)
    path = dicom(values)
    pictures = open_any(path)
    assert len(pictures) == 5 and [picture.index for picture in pictures] == list(range(5))
    for picture, frame in zip(pictures, values, strict=True):
        low, high = float(frame.min()), float(frame.max())
        assert np.array_equal(picture.pixels[..., 0], np.rint((frame - low) * (255 / (high - low))))
    with pytest.raises(UserError, match="holds 5 pictures"):
        read_any(path)
    with pytest.raises(UserError, match="no picture 5"):
        read_any(path, index=5)


def group(**sequences):
    made = pydicom.Dataset()
    for name, values in sequences.items():
        item = pydicom.Dataset()
        for key, value in values.items():
            setattr(item, key, value)
        setattr(made, name, [item])
    return made


def test_functional_groups_of_an_enhanced_file(dicom):
    values = RNG.integers(0, 1000, (2, 6, 8), dtype=np.uint16)
    shared = group(
        PixelMeasuresSequence={"PixelSpacing": [0.5, 0.25]},
        PixelValueTransformationSequence={"RescaleSlope": 2.0, "RescaleIntercept": -1000.0},
    )
    windows = [{"WindowCenter": float(c), "WindowWidth": 500.0, "VOILUTFunction": "LINEAR_EXACT"} for c in (0, 300)]
    frames = [group(FrameVOILUTSequence=window) for window in windows]
    path = dicom(values, SharedFunctionalGroupsSequence=[shared], PerFrameFunctionalGroupsSequence=frames)
    for picture, frame, centre in zip(open_any(path), values, (0, 300), strict=True):
        expected = ((frame * 2.0 - 1000) - (centre - 250)).clip(0, 500) * 255 / 500
        assert np.array_equal(picture.pixels[..., 0], np.rint(expected))
        assert picture.spacing == (0.5, 0.25)


def region(units=3, delta=0.02):
    made = pydicom.Dataset()
    made.PhysicalUnitsXDirection = made.PhysicalUnitsYDirection = units
    made.PhysicalDeltaX, made.PhysicalDeltaY = delta, 2 * delta
    return made


@pytest.mark.parametrize(
    ("changes", "spacing", "note"),
    [
        ({}, None, None),
        ({"PixelSpacing": [0.7, 0.9]}, (0.7, 0.9), None),
        ({"ImagerPixelSpacing": [0.2, 0.3]}, (0.2, 0.3), "at the detector"),
        ({"PixelSpacing": [0.7, 0.9], "ImagerPixelSpacing": [0.2, 0.3]}, (0.7, 0.9), None),
        ({"PixelSpacing": [0, 0]}, None, None),
    ],
)
def test_spacing(dicom, changes, spacing, note):
    picture = read_any(dicom(VALUES, **changes))
    assert picture.spacing == spacing
    assert (note in picture.notes[0]) if note else picture.notes == ()


def test_spacing_of_ultrasound(dicom):
    assert read_any(dicom(VALUES, SequenceOfUltrasoundRegions=[region()])).spacing == pytest.approx((0.4, 0.2))
    for others in ([region(units=4)], [region(), region()], [region(delta=0.0)]):
        assert read_any(dicom(VALUES, SequenceOfUltrasoundRegions=others)).spacing is None


def test_nothing_about_the_patient_is_kept(dicom):
    assert "Secret" not in repr(read_any(dicom(VALUES)))


def test_dicom_is_known_by_its_first_bytes(dicom):
    path = dicom(VALUES, "IM0001")
    assert read_any(path).kind == "dicom"


def test_what_is_no_picture(dicom, tmp_path):
    path = dicom(VALUES, PixelData=None)
    with pytest.raises(UserError, match=r"x\.dcm is DICOM without pixels"):
        read_any(path)
    (tmp_path / "text.dcm").write_text("no DICOM at all")
    with pytest.raises(UserError, match=r"text\.dcm as DICOM"):
        read_any(tmp_path / "text.dcm")


def test_an_unknown_transfer_syntax(dicom):
    path = dicom(VALUES)
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = "1.2.3.4.5"
    data.save_as(path, implicit_vr=False, little_endian=True)
    with pytest.raises(UserError, match=r"cannot decode the pixels .*transfer syntax 1\.2\.3\.4\.5"):
        read_any(path)


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.9])
def test_a_file_that_was_cut_off(dicom, keep):
    path = dicom(VALUES)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(UserError, match=r"x\.dcm"):
        read_any(path)


def test_nan_in_float_pixels(dicom):
    values = np.ones((4, 4), np.float32)
    values[1, 1] = np.nan
    path = dicom(VALUES, PixelData=None, Rows=4, Columns=4, FloatPixelData=values.tobytes(), BitsAllocated=32)
    with pytest.raises(UserError, match="NaN"):
        read_any(path)


def test_an_unknown_photometric_interpretation(dicom):
    with pytest.raises(UserError, match="'HSV'"):
        open_dicom(dicom(VALUES, PhotometricInterpretation="HSV")).read(0)


def test_the_bomb_guard_is_kept(dicom, monkeypatch):
    from PIL import Image

    path = dicom(VALUES)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UserError, match="guard of 100 pixels"):
        read_any(path)


def test_without_pydicom_the_extra_is_named(dicom, monkeypatch):
    path = dicom(VALUES)
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(UserError, match=r'DICOM needs pydicom, .*pip install "vlseg\[medical\]"'):
        read_any(path)


def test_what_is_said_of_plain_pixels_is_not_to_uncompress_them(dicom):
    with pytest.raises(UserError, match=r"Little Endian; .*: export it again"):
        open_dicom(dicom(VALUES, PhotometricInterpretation="WEIRD")).read(0)


def test_a_file_without_the_mark_of_dicom(tmp_path):
    (tmp_path / "x.dcm").write_bytes(b"words" * 100)
    with pytest.raises(UserError, match=r"x\.dcm as DICOM \(no DICM after 128 bytes\): export it again$"):
        open_any(tmp_path / "x.dcm")
