import numpy as np
import pytest

from vlseg.demo.maps import EXTRA, HIT, MISSED, colours, errors, heat, tokens


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


def test_more_is_always_brighter():
    ramp = colours(np.linspace(0, 1, 256, dtype=np.float32)[None]).astype(float)
    light = ramp[0] @ [0.299, 0.587, 0.114]
    assert (np.diff(light) >= 0).all() and light[-1] - light[0] > 200


def test_values_beyond_the_range_are_its_ends():
    ends = colours(np.array([[-1.0, 0.0, 1.0, 2.0]], np.float32))[0]
    assert np.array_equal(ends[0], ends[1]) and np.array_equal(ends[2], ends[3])


def test_heat_is_the_probability_whatever_the_picture(image):
    probability = np.random.default_rng(1).random((30, 40), dtype=np.float32)
    black, white = (heat(np.full_like(image, v), probability).astype(float) for v in (0, 255))
    assert np.abs(black - 0.82 * colours(probability)).max() <= 0.51
    assert np.abs(white - black - 0.18 * 255).max() <= 1


def test_each_kind_of_error_has_its_colour(image):
    mask, true = np.zeros((2, 30, 40), bool)
    mask[:20], true[10:] = True, True
    drawn = errors(np.zeros_like(image), mask, true)
    for rows, colour in ((slice(0, 10), EXTRA), (slice(10, 20), HIT), (slice(20, 30), MISSED)):
        assert np.abs(drawn[rows] - 0.7 * np.array(colour)).max() <= 0.5
    gray = errors(image, mask & False, true & False)
    assert np.array_equal(gray[..., 0], gray[..., 2])


def test_a_token_covers_its_share_of_the_picture(image):
    values = np.zeros((3, 4), np.float32)
    values[1, 2] = 5.0
    bright = tokens(np.zeros_like(image), values).astype(int).sum(axis=2)
    assert (bright == bright.max()).sum() == 100
    assert (bright[10:20, 20:30] == bright.max()).all()


def test_tokens_that_are_all_alike_are_dark(image):
    assert len(np.unique(tokens(np.zeros_like(image), np.full((3, 3), 0.7, np.float32)).reshape(-1, 3), axis=0)) == 1
