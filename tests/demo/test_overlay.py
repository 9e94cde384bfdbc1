import numpy as np
import pytest

from vlseg.demo.overlay import ACCENT, HALO, draw_mask, line_width, measure, overlay


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8)


@pytest.fixture
def mask():
    y, x = np.mgrid[0:61, 0:83]
    return np.hypot(y - 30, x - 40) < 17


def test_measure_counts_pixels(mask):
    area = measure(mask)
    assert area.pixels == np.count_nonzero(mask)
    assert area.share == pytest.approx(np.count_nonzero(mask) / mask.size)


def test_an_empty_mask_leaves_the_picture_as_it_is(image):
    assert np.array_equal(draw_mask(image, np.zeros(image.shape[:2], bool), 0.7), image)


def test_the_contour_is_the_rim_of_the_mask_and_the_halo_lies_outside(image, mask):
    drawn = draw_mask(image, mask, 0.5)
    rim, halo = np.all(drawn == ACCENT, axis=2), np.all(drawn == HALO, axis=2)
    inner = mask & np.roll(mask, 1, 0) & np.roll(mask, -1, 0) & np.roll(mask, 1, 1) & np.roll(mask, -1, 1)
    assert (rim <= mask).all() and rim[mask & ~inner].all()
    assert not (halo & mask).any() and halo.any()
    outside = ~mask & ~halo
    assert np.array_equal(drawn[outside], image[outside])


@pytest.mark.parametrize("opacity", [0.0, 0.35, 1.0])
def test_opacity_blends_the_inside(image, mask, opacity):
    drawn = draw_mask(image, mask, opacity)
    expected = (1 - opacity) * image[30, 40].astype(float) + opacity * np.array(ACCENT)
    assert np.abs(drawn[30, 40] - expected).max() <= 0.5 + 1e-4


def test_a_higher_threshold_draws_less(image):
    probability = np.tile(np.linspace(0, 1, 83, dtype=np.float32), (61, 1))
    low, high = (np.any(overlay(image, probability, level, 1.0) != image, axis=2).sum() for level in (0.2, 0.8))
    assert low > 3 * high > 0


def test_a_mask_over_everything_has_its_rim_nowhere_else(image):
    drawn = draw_mask(image, np.ones(image.shape[:2], bool), 0.0)
    assert np.array_equal(drawn, image)


@pytest.mark.parametrize(("shape", "width"), [((176, 176), 1), ((600, 900), 2), ((2000, 1500), 5), ((3, 3), 1)])
def test_lines_grow_with_the_picture(shape, width):
    assert line_width(shape) == width
