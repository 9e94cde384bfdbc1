import numpy as np
import pytest

from vlseg.train.augment_crops import augment_crops
from vlseg.train.data import AUGMENTATIONS

TEXT = "one lesion on the left"


def scene():
    mask = np.zeros((64, 64), bool)
    mask[20:44, 4:24] = True
    image = np.full((64, 64, 3), 60, np.uint8)
    image[mask] = 190
    return image, mask


def test_a_seed_gives_one_change():
    image, mask = scene()
    first, again, other = (augment_crops(image, mask, TEXT, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first[:2], again[:2], strict=True))
    assert not np.array_equal(first[0], other[0])
    assert first[0].shape == image.shape and first[0].dtype == np.uint8
    assert first[1].shape == mask.shape and first[1].dtype == bool


@pytest.mark.parametrize("seed", range(20))
def test_picture_and_mask_move_together_and_left_stays_left(seed):
    image, mask = scene()
    pixels, moved, text = augment_crops(image, mask, TEXT, seed)
    assert text == TEXT
    bright = pixels[..., 0] > (int(pixels.max()) + int(np.median(pixels))) / 2
    assert (bright == moved).mean() > 0.95
    assert np.nonzero(moved)[1].mean() < 34


def test_crops_hold_half_to_all_of_the_area():
    image = np.repeat(np.linspace(0, 255, 200).astype(np.uint8)[None, :, None], 200, 0).repeat(3, 2)
    mask = np.zeros((200, 200), bool)
    spans = []
    for seed in range(200):
        row = augment_crops(image, mask, "", seed)[0][100, :, 0].astype(float)
        spans.append((row.max() - row.min()) / 255)
    # widths go from sqrt(0.5 * 3/4) = 0.61 to 1; brightness and contrast change some
    assert 0.4 < min(spans) < 0.75 and max(spans) > 0.9


def test_both_are_named():
    assert set(AUGMENTATIONS) == {"flips", "crops"}
