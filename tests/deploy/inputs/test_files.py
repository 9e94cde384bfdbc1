"""One door for every file: the same pixels as training reads, the right reader, bad files in one sentence."""

import numpy as np
import pytest
from PIL import Image

from vlseg.deploy.errors import UserError
from vlseg.deploy.inputs.files import is_readable, open_any, read_any
from vlseg.deploy.pixels import read_image
from vlseg.deploy.window import parse_window

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (13, 21, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "picture"),
    [
        ("x.png", Image.fromarray(RGB)),
        ("x.jpg", Image.fromarray(RGB)),
        ("cmyk.jpg", Image.fromarray(RGB).convert("CMYK")),
        ("cmyk.tif", Image.fromarray(RGB).convert("CMYK")),
        ("rgba.png", Image.fromarray(np.dstack([RGB, RGB[..., 0]]))),
        ("gray.png", Image.fromarray(RGB[..., 0])),
        ("palette.png", Image.fromarray(RGB).quantize(16)),
        ("deep.tif", Image.fromarray(RNG.integers(0, 4096, (13, 21), dtype=np.uint16))),
        ("deep.png", Image.fromarray(RNG.integers(0, 4096, (13, 21), dtype=np.uint16))),
        ("float.tif", Image.fromarray(RNG.normal(size=(13, 21)).astype(np.float32))),
    ],
)
def test_the_pixels_are_those_of_training(tmp_path, name, picture):
    picture.save(tmp_path / name)
    read = read_any(tmp_path / name)
    assert np.array_equal(read.pixels, read_image(tmp_path / name)) and read.pixels.dtype == np.uint8
    assert (read.kind, read.spacing, read.index, read.shape) == ("picture", None, 0, (13, 21))


def test_an_upright_phone_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(tmp_path / "x.jpg", exif=exif)
    assert read_any(tmp_path / "x.jpg").shape == (21, 13)


@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_a_window_of_a_deep_picture(tmp_path, suffix):
    values = RNG.integers(0, 65536, (13, 21), dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"x.{suffix}")
    seen = read_any(tmp_path / f"x.{suffix}", window=(1000, 41000)).pixels
    expected = np.rint((values.astype(np.float64).clip(1000, 41000) - 1000) * (255 / 40000))
    assert all(np.array_equal(seen[..., i], expected) for i in range(3))
    same = (float(values.min()), float(values.max()))
    assert np.array_equal(read_any(tmp_path / f"x.{suffix}", window=same).pixels, read_image(tmp_path / f"x.{suffix}"))


def test_a_window_outside_of_the_values(tmp_path):
    Image.fromarray(np.full((4, 4), 900, np.uint16)).save(tmp_path / "x.tif")
    assert not read_any(tmp_path / "x.tif", window=(1000, 2000)).pixels.any()
    assert (read_any(tmp_path / "x.tif", window=(10, 20)).pixels == 255).all()


def test_a_window_for_eight_bits_is_refused(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "x.png")
    with pytest.raises(UserError, match="has 8 bits"):
        read_any(tmp_path / "x.png", window=(0, 9))


@pytest.mark.parametrize(("text", "window"), [("0,1", (0, 1)), ("-160, 240", (-160, 240)), ("-.5,1e3", (-0.5, 1000))])
def test_windows_are_parsed(text, window):
    assert parse_window(text) == window


@pytest.mark.parametrize("text", ["", "1", "1,1", "2,1", "a,b", "1,2,3", "nan,1", "0,inf", "0,1e999"])
def test_what_is_no_window(text):
    with pytest.raises(UserError, match="expected LOW,HIGH"):
        parse_window(text)


@pytest.mark.parametrize("suffix", ["tif", "gif"])
def test_frames_of_a_stack(tmp_path, suffix):
    frames = [Image.fromarray(np.full((6, 8), 40 * i, np.uint8)) for i in range(4)]
    frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:])
    pictures = open_any(tmp_path / f"x.{suffix}")
    assert [(picture.index, int(picture.pixels[0, 0, 0])) for picture in pictures] == [(i, 40 * i) for i in range(4)]
    with pytest.raises(UserError, match="holds 4 pictures, expected one"):
        read_any(tmp_path / f"x.{suffix}")
    with pytest.raises(UserError, match="no picture -1"):
        read_any(tmp_path / f"x.{suffix}", index=-1)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "dcm", "nii", "nii.gz"])
@pytest.mark.parametrize("content", [b"", b"this is text", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_bad_files_are_named(tmp_path, suffix, content):
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"x\.{suffix}"):
        read_any(path)


def test_absent_files_and_folders(tmp_path):
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(UserError, match="no image file"):
            read_any(path)


def test_what_a_folder_run_takes(tmp_path):
    for name in ("IM0001", "1.2.840.113619", "scan.IMA", "DICOMDIR"):
        (tmp_path / name).write_bytes(b"\0" * 128 + b"DICM")
    for name in ("a.png", "B.TIF", "c.dcm", "d.nii.gz", "notes.txt", "README", ".hidden.png"):
        (tmp_path / name).write_bytes(b"x")
    taken = sorted(path.name for path in tmp_path.iterdir() if is_readable(path))
    assert taken == ["1.2.840.113619", "B.TIF", "IM0001", "a.png", "c.dcm", "d.nii.gz", "scan.IMA"]


def test_what_may_not_be_read_is_named_and_not_passed_over(tmp_path, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "IM0001").write_bytes(b"x")
    Image.fromarray(RGB).save(tmp_path / "x.png")
    monkeypatch.setattr("builtins.open", refuse)
    assert is_readable(tmp_path / "IM0001")
    for name in ("IM0001", "x.png"):
        with pytest.raises(UserError, match=rf"{name} \(Permission denied\): get the right to read it"):
            open_any(tmp_path / name)
