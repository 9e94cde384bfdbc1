"""From image files to mask files, and what is never overwritten."""

import numpy as np
import pytest
from PIL import Image

from vlseg.deploy.errors import UserError
from vlseg.deploy.masks import segment_files
from vlseg.deploy.pixels import read_image
from vlseg.deploy.segmenter import Segmenter


@pytest.fixture
def segmenter(toy_bundle):
    with Segmenter.open(toy_bundle) as opened:
        yield opened


@pytest.fixture
def picture(tmp_path, colours):
    Image.fromarray(colours[0]).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_one_image(segmenter, picture, colours, tmp_path):
    [(path, share)] = segment_files(segmenter, picture, "red", tmp_path / "out" / "mask.png")
    mask = read_image(path)[..., 0]
    assert set(np.unique(mask)) == {0, 255}
    assert np.array_equal(mask > 0, segmenter.segment(colours[0], "red"))
    assert share == pytest.approx((mask > 0).mean())


def test_a_folder_keeps_stems(segmenter, toy_data, tmp_path):
    done = list(segment_files(segmenter, toy_data / "images", "red", tmp_path / "masks"))
    images = sorted(path.stem for path in (toy_data / "images").iterdir())
    assert [path.stem for path, _ in done] == images and len(images) == 4


def test_an_image_is_never_replaced(segmenter, picture):
    before = picture.read_bytes()
    for source, out in ((picture, picture), (picture.parent, picture.parent)):
        with pytest.raises(UserError, match="would replace an image"):
            list(segment_files(segmenter, source, "red", out, overwrite=True))
    assert picture.read_bytes() == before


def test_a_mask_is_replaced_only_when_asked(segmenter, picture, tmp_path):
    out = tmp_path / "mask.png"
    out.write_bytes(b"mine")
    with pytest.raises(UserError, match="exists already"):
        list(segment_files(segmenter, picture, "red", out))
    assert out.read_bytes() == b"mine"
    list(segment_files(segmenter, picture, "red", out, overwrite=True))
    assert read_image(out).shape == read_image(picture).shape


@pytest.mark.parametrize(
    ("source", "out", "says"),
    [("absent.png", "m.png", "there is no"), ("picture.png", "m.jpg", "not a PNG"), ("empty", "m", "no images in")],
)
def test_bad_input(segmenter, picture, tmp_path, source, out, says):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=says):
        list(segment_files(segmenter, tmp_path / source, "red", tmp_path / out))


def test_two_images_of_one_stem(segmenter, toy_data, tmp_path):
    first = sorted((toy_data / "images").iterdir())[0]
    Image.fromarray(read_image(first)).save(first.with_suffix(".bmp"))
    with pytest.raises(UserError, match="would write one mask"):
        list(segment_files(segmenter, toy_data / "images", "red", tmp_path / "masks"))
