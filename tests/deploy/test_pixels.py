import struct

import numpy as np
import pytest
from PIL import Image

from vlseg.deploy import pixels
from vlseg.deploy.errors import UserError

RNG = np.random.default_rng(0)


def rgb(height=13, width=21):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def saved(tmp_path, picture, name="x.png", **options):
    picture.save(tmp_path / name, **options)
    return tmp_path / name


def test_png_is_exact(tmp_path):
    image = rgb()
    read = pixels.read_image(saved(tmp_path, Image.fromarray(image)))
    assert np.array_equal(read, image) and read.dtype == np.uint8 and read.flags.writeable


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    image = np.full((16, 32, 3), 255, np.uint8)
    image[:8, :8] = 0
    turned = {
        1: image,
        2: image[:, ::-1],
        3: image[::-1, ::-1],
        4: image[::-1],
        5: image.transpose(1, 0, 2),
        6: np.rot90(image, -1),
        7: image[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(image),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, Image.fromarray(image), "x.jpg", quality=95, exif=exif)
    read = pixels.read_image(path)
    assert read.shape == turned.shape
    assert np.abs(read.astype(int) - turned).max() < 60
    assert (pixels.read_mask(path) == (turned[..., 0] > 127)).mean() > 0.97


def test_gray_is_repeated(tmp_path):
    gray = rgb()[..., 0]
    assert np.array_equal(pixels.read_image(saved(tmp_path, Image.fromarray(gray))), np.stack([gray] * 3, axis=2))


def test_one_bit(tmp_path):
    bits = rgb()[..., 0] > 127
    path = saved(tmp_path, Image.fromarray(bits))
    assert np.array_equal(pixels.read_image(path)[..., 1], bits * np.uint8(255))
    assert np.array_equal(pixels.read_mask(path), bits)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_twelve_bits_in_sixteen_are_not_black(tmp_path, suffix):
    deep = RNG.integers(100, 4000, (9, 11)).astype(np.uint16)
    deep[0, 0], deep[0, 1] = 100, 3999
    read = pixels.read_image(saved(tmp_path, Image.fromarray(deep), f"x.{suffix}"))
    expected = np.rint((deep - 100.0) / 3899 * 255)
    assert np.array_equal(read, np.stack([expected] * 3, axis=2))


def test_float_tiff(tmp_path):
    deep = RNG.normal(size=(9, 11)).astype(np.float32)
    read = pixels.read_image(saved(tmp_path, Image.fromarray(deep), "x.tif"))
    assert read.min() == 0 and read.max() == 255
    flat = saved(tmp_path, Image.fromarray(np.full((3, 4), 7, np.float32)), "flat.tif")
    assert not pixels.read_image(flat).any()


@pytest.mark.parametrize("read", [pixels.read_image, pixels.read_mask])
def test_nan_is_refused(tmp_path, read):
    deep = np.ones((3, 4), np.float32)
    deep[1, 1] = np.nan
    with pytest.raises(UserError, match=r"x\.tif holds NaN"):
        read(saved(tmp_path, Image.fromarray(deep), "x.tif"))


def test_alpha_is_dropped(tmp_path):
    image = rgb()
    rgba = np.dstack([image, RNG.integers(0, 256, image.shape[:2], dtype=np.uint8)])
    assert np.array_equal(pixels.read_image(saved(tmp_path, Image.fromarray(rgba))), image)


def test_palette_with_and_without_transparency(tmp_path):
    picture = Image.fromarray(rgb()).quantize(16)
    expected = np.asarray(picture.convert("RGB"))
    assert np.array_equal(pixels.read_image(saved(tmp_path, picture)), expected)
    transparent = saved(tmp_path, picture, "t.png", transparency=bytes(range(16)))
    assert np.array_equal(pixels.read_image(transparent), expected)


def test_cmyk(tmp_path):
    image = np.full((8, 8, 3), (200, 30, 60), np.uint8)
    path = saved(tmp_path, Image.fromarray(image).convert("CMYK"), "x.jpg", quality=95)
    assert np.abs(pixels.read_image(path).astype(int) - image).max() < 12


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
def test_truncated_files(tmp_path, suffix):
    path = saved(tmp_path, Image.fromarray(rgb(64, 64)), f"x.{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=rf"x\.{suffix}"):
        pixels.read_image(path)


def test_a_tiff_that_says_more_than_it_holds(tmp_path):
    """Its one strip ends before the picture does; what is not there would be read as black."""
    path = saved(tmp_path, Image.fromarray(rgb(8, 8)), "x.tif")
    data, height = bytearray(path.read_bytes()), struct.pack("<HHII", 257, 4, 1, 8)
    struct.pack_into("<I", data, data.index(height) + 8, 800)
    path.write_bytes(data)
    for read in (pixels.read_image, pixels.read_mask):
        with pytest.raises(UserError, match="says 8 x 800 pixels and holds 8 x 8"):
            read(path)


def test_bad_files_are_named(tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "zero.png").write_bytes(b"")
    for name, word in {
        "text.png": "no image",
        "zero.png": "empty",
        "none.png": "no image file",
        ".": "no image",
    }.items():
        with pytest.raises(UserError, match=word) as caught:
            pixels.read_image(tmp_path / name)
        assert str(tmp_path) in str(caught.value)


def test_stacks_are_refused_but_not_a_phone_s_mpo(tmp_path):
    frames = [Image.fromarray(rgb()) for _ in range(3)]
    path = saved(tmp_path, frames[0], "x.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match="3 frames"):
        pixels.read_image(path)
    path = saved(tmp_path, frames[0], "x.jpg", format="MPO", save_all=True, append_images=frames[1:], quality=95)
    assert pixels.read_image(path).shape == (13, 21, 3)


def test_the_bomb_guard_is_kept(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.fromarray(rgb(40, 40)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UserError, match="larger than twice Pillow's guard of 100 pixels"):
        pixels.read_image(path)


@pytest.mark.parametrize("shape", [(1, 1), (1, 997), (501, 1)])
def test_thin_images(tmp_path, shape):
    image = rgb(*shape)
    read = pixels.read_image(saved(tmp_path, Image.fromarray(image)))
    assert pixels.to_input(read, 16, (0, 0, 0), (1, 1, 1)).shape == (3, 16, 16)
    assert pixels.to_probability(np.zeros((16, 16), np.float32), *shape).shape == shape


def test_jpeg_masks_are_thresholded(tmp_path):
    mask = np.zeros((64, 64), np.uint8)
    mask[13:39, 11:46] = 255
    path = saved(tmp_path, Image.fromarray(mask), "m.jpg", quality=60)
    assert len(np.unique(np.asarray(Image.open(path)))) > 2
    assert np.array_equal(pixels.read_mask(path), mask > 0)


def test_the_middle_gray_is_the_line(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.array([[0, 1, 127, 128, 255]], np.uint8)))
    assert pixels.read_mask(path).tolist() == [[False, False, False, True, True]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("top", [1, 255])
def test_masks_of_zero_and_one(tmp_path, dtype, top):
    mask = RNG.random((9, 11)) > 0.5
    read = pixels.read_mask(saved(tmp_path, Image.fromarray((mask * top).astype(dtype))))
    assert np.array_equal(read, mask) and read.dtype == bool


def test_an_empty_mask_is_empty(tmp_path):
    assert not pixels.read_mask(saved(tmp_path, Image.fromarray(np.zeros((5, 7), np.uint8)))).any()


def test_coloured_masks_count(tmp_path):
    mask = RNG.random((9, 11)) > 0.5
    red = mask[..., None] * np.array([255, 0, 0], np.uint8)
    assert np.array_equal(pixels.read_mask(saved(tmp_path, Image.fromarray(red))), mask)
    picture = Image.fromarray(red).quantize(4)
    assert np.array_equal(pixels.read_mask(saved(tmp_path, picture, "p.png")), mask)
    both = np.dstack([red[..., 0], np.full((9, 11), 255, np.uint8)])
    assert np.array_equal(pixels.read_mask(saved(tmp_path, Image.fromarray(both, "LA"), "la.png")), mask)


def test_label_maps_are_refused(tmp_path):
    labels = RNG.integers(0, 4, (9, 11), dtype=np.uint8)
    with pytest.raises(UserError, match="up to 3"):
        pixels.read_mask(saved(tmp_path, Image.fromarray(labels)))


@pytest.mark.parametrize("shape", [(16, 16), (37, 5), (200, 311)])
def test_to_input_against_float64(shape):
    image, mean, std = rgb(*shape), (0.48, 0.45, 0.4), (0.26, 0.27, 0.28)
    small = np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BILINEAR)).astype(np.float64)
    expected = ((small / 255 - mean) / std).transpose(2, 0, 1)
    made = pixels.to_input(image, 16, mean, std)
    assert made.dtype == np.float32 and made.flags.c_contiguous
    assert np.abs(made - expected).max() < 1e-6


def test_to_input_is_antialiased():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(pixels.to_input(stripes, 16, (0, 0, 0), (1, 1, 1)) - 0.5).max() < 0.01


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_to_input_refuses(image):
    with pytest.raises(UserError, match="expected uint8"):
        pixels.to_input(image, 8, (0, 0, 0), (1, 1, 1))


def test_probability_at_equal_size_is_the_sigmoid():
    logits = RNG.normal(0, 8, (11, 11)).astype(np.float32)
    exact = 1 / (1 + np.exp(-logits.astype(np.float64)))
    made = pixels.to_probability(logits, 11, 11)
    assert made.dtype == np.float32 and np.abs(made - exact).max() < 1e-6


@pytest.mark.parametrize("shape", [(11, 11), (1, 1), (37, 53), (700, 900), (3, 70_000), (70_000, 1), (5, 7)])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
def test_a_mask_needs_no_whole_probability(shape, threshold):
    logits = RNG.normal(0, 2, (11, 11)).astype(np.float32)
    probability = pixels.to_probability(logits, *shape)
    whole = Image.fromarray(0.5 * np.tanh(0.5 * logits) + 0.5).resize(shape[::-1], Image.Resampling.BILINEAR)
    assert np.array_equal(probability, np.asarray(whole)) and probability.flags.writeable
    mask = pixels.mask_of(logits, *shape, threshold)
    assert mask.dtype == bool and np.array_equal(mask, pixels.to_mask(probability, threshold))


def test_probability_survives_extremes():
    made = pixels.to_probability(np.array([[-1e4, 1e4], [-90, 90]], np.float32), 7, 5)
    assert made.shape == (7, 5) and made.min() >= 0 and made.max() <= 1


def test_probability_is_resized_as_torch_does():
    torch = pytest.importorskip("torch")
    logits = RNG.normal(size=(11, 11)).astype(np.float32)
    exact = torch.nn.functional.interpolate(
        torch.from_numpy(logits).sigmoid()[None, None], size=(37, 53), mode="bilinear", align_corners=False
    )
    assert np.abs(pixels.to_probability(logits, 37, 53) - exact[0, 0].numpy()).max() < 1e-5


def test_one_sure_pixel_does_not_drown_its_neighbours():
    logits = np.full((2, 2), -1, np.float32)
    logits[0, 0] = 1e4
    assert pixels.to_probability(logits, 1, 1)[0, 0] == pytest.approx((1 + 3 * 0.26894) / 4, abs=1e-4)


def test_the_threshold_itself_is_outside():
    assert pixels.to_mask(np.array([[0.5, 0.5001]], np.float32), 0.5).tolist() == [[False, True]]


@pytest.mark.parametrize("window", [None, (100, 3000)])
def test_a_deep_tiff_that_counts_from_white(tmp_path, window):
    values = RNG.integers(0, 4096, (13, 21), dtype=np.uint16)
    black = pixels.read_image(saved(tmp_path, Image.fromarray(values), "black.tif"), window)
    white = pixels.read_image(saved(tmp_path, Image.fromarray(values), "white.tif", tiffinfo={262: 0}), window)
    with Image.open(tmp_path / "white.tif") as picture:
        assert picture.mode == "I;16" and picture.tag_v2[262] == 0
    assert np.array_equal(white, 255 - black)


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan"), float("inf")])
def test_a_threshold_is_a_probability(threshold):
    with pytest.raises(UserError, match="from 0 to 1"):
        pixels.level_of(threshold, 0.5)
    assert [pixels.level_of(one, 0.5) for one in (None, 0, 0.3, 1)] == [0.5, 0, 0.3, 1]
