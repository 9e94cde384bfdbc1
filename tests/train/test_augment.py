import numpy as np
import pytest

from vlseg.train.augment import HORIZONTAL, VERTICAL, augment, swap_words


@pytest.mark.parametrize(
    ("text", "pairs", "swapped"),
    [
        ("left lung, RIGHT lung", HORIZONTAL, "right lung, LEFT lung"),
        ("Left of the leftmost, aright", HORIZONTAL, "Right of the leftmost, aright"),
        ("one small polyp, located in top-left", HORIZONTAL, "one small polyp, located in top-right"),
        ("top left and lower right", VERTICAL, "bottom left and upper right"),
        ("stop the topmost", VERTICAL, "stop the topmost"),
        ("", VERTICAL, ""),
    ],
)
def test_whole_words_swap_in_their_case(text, pairs, swapped):
    assert swap_words(text, pairs) == swapped
    assert swap_words(swapped, pairs) == text


def corner() -> tuple[np.ndarray, np.ndarray]:
    """A bright blob in the upper left of a dark 64 x 64 image, and its mask."""
    mask = np.zeros((64, 64), bool)
    mask[8:24, 6:26] = True
    image = np.full((64, 64, 3), 30, np.uint8)
    image[mask] = 200
    return image, mask


def test_picture_mask_and_words_stay_true_to_each_other():
    image, mask = corner()
    seen = set()
    for seed in range(24):
        pixels, target, text = augment(image, mask, "the square in the top left", seed)
        assert pixels.dtype == np.uint8 and pixels.shape == image.shape and target.dtype == bool
        y, x = np.argwhere(target).mean(axis=0)
        assert ("left" in text) == (x < 32) and ("right" in text) == (x > 32)
        assert ("top" in text) == (y < 32) and ("bottom" in text) == (y > 32)
        bright = pixels[..., 0] > 100
        assert (bright & target).sum() / (bright | target).sum() > 0.85
        seen.add(text)
    assert len(seen) == 4  # every combination of flips came up


def test_the_seed_decides():
    image, mask = corner()
    first, again, other = (augment(image, mask, "left", seed) for seed in (3, 3, 4))
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1]) and first[2] == again[2]
    assert not np.array_equal(first[0], other[0])
