"""Largest component and holes, by hand and against a slow definition."""

import sys

import numpy as np
import pytest

from vlseg.deploy.clean import KEEP, Clean, fill_holes, largest_component
from vlseg.deploy.errors import UserError

pytest.importorskip("scipy")
RNG = np.random.default_rng(0)


def flood(mask, start, steps):
    """Return what can be reached from `start` within the mask, one pixel at a time."""
    reached, front = np.zeros_like(mask), [start]
    while front:
        y, x = front.pop()
        if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x] and not reached[y, x]:
            reached[y, x] = True
            front += [(y + dy, x + dx) for dy, dx in steps]
    return reached


SIDES = [(0, 1), (1, 0), (0, -1), (-1, 0)]
CORNERS = [*SIDES, (1, 1), (1, -1), (-1, 1), (-1, -1)]


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6])
@pytest.mark.parametrize("shape", [(13, 17), (1, 30), (30, 1)])
def test_the_largest_component(share, shape):
    mask = RNG.random(shape) < share
    sizes = [flood(mask, tuple(place), CORNERS).sum() for place in np.argwhere(mask)]
    kept = largest_component(mask)
    assert kept.sum() == max(sizes) and not (kept & ~mask).any()
    assert np.array_equal(kept, flood(mask, tuple(np.argwhere(kept)[0]), CORNERS))


def test_the_first_of_equals():
    mask = np.zeros((5, 9), bool)
    mask[1:3, 6:8] = mask[2:4, 1:3] = True
    assert largest_component(mask)[1, 6] and largest_component(mask).sum() == 4


@pytest.mark.parametrize("share", [0.4, 0.6, 0.8])
def test_holes_are_what_no_path_leads_out_of(share):
    mask = RNG.random((13, 17)) < share
    framed = np.pad(~mask, 1, constant_values=True)
    outside = flood(framed, (0, 0), SIDES)[1:-1, 1:-1]
    assert np.array_equal(fill_holes(mask), ~outside)


@pytest.mark.parametrize("mask", [np.zeros((4, 5), bool), np.ones((4, 5), bool), np.ones((1, 1), bool)])
def test_nothing_to_clean(mask):
    cleaned = Clean(largest=True, holes=True)(mask)
    assert cleaned.dtype == bool and np.array_equal(cleaned, mask)


def test_the_largest_comes_before_the_holes():
    mask = np.zeros((12, 12), bool)
    mask[1:8, 1:8] = True
    mask[3:6, 3:6] = False
    mask[4, 4] = mask[10, 10] = True  # an island in the hole, and one outside
    cleaned = Clean(largest=True, holes=True)(mask)
    assert cleaned[1:8, 1:8].all() and cleaned.sum() == 49


def test_without_an_option_the_mask_is_the_same_and_scipy_is_not_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    mask = np.eye(4, dtype=bool)
    assert KEEP(mask) is mask
    with pytest.raises(UserError, match=r'scipy, .*pip install "vlseg\[score\]"'):
        Clean(holes=True)(mask)
