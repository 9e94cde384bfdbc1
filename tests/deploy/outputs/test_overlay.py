"""What is drawn, and what a mask measures."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from vlseg.deploy.outputs.area import measure_area
from vlseg.deploy.outputs.formats import COLOURS, draw_classes
from vlseg.deploy.outputs.overlay import ACCENT, HALO, _grown, _shrunk, draw_mask, line_width

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
MASK = np.zeros((60, 80), bool)
MASK[20:40, 30:60] = True


def test_veil_contour_and_halo():
    drawn = draw_mask(IMAGE, MASK, 0.25)
    inside = (slice(21, 39), slice(31, 59))
    expected = np.rint(0.75 * IMAGE[inside].astype(np.float64) + 0.25 * np.array(ACCENT))
    assert np.abs(drawn[inside] - expected).max() <= 1
    assert (drawn[20, 30:60] == ACCENT).all() and (drawn[19, 30:60] == HALO).all()
    far = np.ones_like(MASK)
    far[18:42, 28:62] = False
    assert np.array_equal(drawn[far], IMAGE[far])


def test_the_picture_itself_stays():
    before = IMAGE.copy()
    draw_mask(IMAGE, MASK)
    assert np.array_equal(IMAGE, before)


@pytest.mark.parametrize("mask", [np.zeros((60, 80), bool), np.ones((60, 80), bool)])
def test_nothing_and_everything(mask):
    drawn = draw_mask(IMAGE, mask, 0.0)
    assert drawn.shape == IMAGE.shape and np.array_equal(drawn, IMAGE)


def test_lines_grow_with_the_picture():
    assert (line_width((60, 80)), line_width((3000, 4000))) == (1, 10)


def test_each_class_has_a_colour():
    labels = np.zeros((60, 80), np.uint8)
    labels[5:20, 5:20], labels[30:50, 40:70] = 1, 2
    drawn = draw_classes(IMAGE, labels)
    assert (drawn[5, 5:20] == COLOURS[0]).all() and (drawn[30, 40:70] == COLOURS[1]).all()


def test_area():
    area = measure_area(MASK, (0.5, 0.25))
    assert (area.pixels, area.share, area.mm2) == (600, 600 / 4800, 75.0)
    assert measure_area(MASK).mm2 is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (3, 3), (37, 53)])
@pytest.mark.parametrize("by", [1, 2, 7])
def test_growing_is_the_rank_filter_of_pillow(shape, by):
    mask = np.random.default_rng(by).random(shape) > 0.8
    drawn = Image.fromarray(mask.astype(np.uint8) * 255)
    kept = mask.copy()
    assert np.array_equal(_grown(mask, by), np.asarray(drawn.filter(ImageFilter.MaxFilter(2 * by + 1))) > 0)
    assert np.array_equal(_shrunk(mask, by), np.asarray(drawn.filter(ImageFilter.MinFilter(2 * by + 1))) > 0)
    assert np.array_equal(mask, kept)
