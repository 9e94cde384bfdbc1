import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vlseg.deploy import metrics
from vlseg.deploy.errors import UserError

SHAPES = [(1, 1), (1, 9), (17, 1), (7, 13), (64, 33), (101, 97)]


def blobs(shape, seed, share=0.4):
    """Return a random mask of blobs that often touch the border."""
    from scipy.ndimage import gaussian_filter

    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), min(4, max(shape) / 8))
    return field > np.quantile(field, 1 - share)


def square(top, left, side, shape=(40, 50)):
    mask = np.zeros(shape, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_overlap_by_hand():
    a, b = square(0, 0, 4), square(0, 2, 4)
    assert metrics.dice(a, b) == 2 * 8 / 32 and metrics.iou(a, b) == 8 / 24
    assert metrics.dice(a, a) == metrics.iou(a, a) == 1
    assert metrics.dice(a, square(20, 20, 4)) == metrics.iou(a, square(20, 20, 4)) == 0


def test_empty_masks():
    none, some = np.zeros((30, 40), bool), square(0, 0, 4, (30, 40))
    assert metrics.dice(none, none) == metrics.iou(none, none) == 1
    assert metrics.hd95(none, none) == 0 and not metrics.one_empty(none, none)
    for a, b in ((none, some), (some, none)):
        assert metrics.dice(a, b) == metrics.iou(a, b) == 0
        assert metrics.hd95(a, b) == metrics.diagonal(a.shape) == 50
        assert metrics.one_empty(a, b)
    assert not metrics.one_empty(some, some)


def test_hd95_by_hand():
    assert metrics.hd95(square(5, 5, 1), square(8, 9, 1)) == 5
    assert metrics.hd95(square(5, 5, 6), square(5, 5, 6)) == 0
    assert metrics.hd95(square(5, 5, 6), square(5, 9, 6)) == 4
    # One pixel far away among a hundred is beyond the percentile; among ten it is not.
    line, dot = np.zeros((40, 200), bool), np.zeros((40, 200), bool)
    line[0, :100] = dot[0, :100] = True
    dot[30, 0] = True
    assert metrics.hd95(line, dot) == 0
    short, dot = np.zeros((40, 200), bool), np.zeros((40, 200), bool)
    short[0, :10] = dot[0, :10] = True
    dot[30, 0] = True
    assert metrics.hd95(short, dot) == pytest.approx(np.percentile([0] * 10 + [30], 95))


def test_the_border_of_the_image_is_an_outline():
    full = np.ones((20, 20), bool)
    inner = square(5, 5, 10, (20, 20))
    assert metrics.hd95(full, inner) == pytest.approx(np.percentile(_border_distances(), 95))


def _border_distances():
    ring = np.argwhere(np.pad(np.zeros((18, 18), bool), 1, constant_values=True))
    inner = np.array([(y, x) for y in range(5, 15) for x in range(5, 15) if y in (5, 14) or x in (5, 14)])
    return [np.sqrt(((inner - point) ** 2).sum(axis=1)).min() for point in ring]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(4))
def test_against_monai(shape, seed):
    torch = pytest.importorskip("torch")
    from monai.metrics import compute_dice, compute_hausdorff_distance, compute_iou

    pred, true = blobs(shape, seed), blobs(shape, seed + 100, 0.1 + 0.2 * seed)
    if not pred.any() or not true.any():
        pred[0, 0] = true[-1, -1] = True
    one_hot = [torch.from_numpy(np.stack([~mask, mask])[None]) for mask in (pred, true)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = compute_hausdorff_distance(*one_hot, percentile=95)
        overlaps = [f(*one_hot, include_background=False) for f in (compute_dice, compute_iou)]
    assert metrics.hd95(pred, true) == pytest.approx(expected.item(), abs=1e-4)
    assert metrics.dice(pred, true) == pytest.approx(overlaps[0].item(), abs=1e-6)
    assert metrics.iou(pred, true) == pytest.approx(overlaps[1].item(), abs=1e-6)


MASK = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12))


@settings(max_examples=60, deadline=None)
@given(MASK, st.randoms(use_true_random=False))
def test_properties(mask, random):
    other = np.array([[random.random() < 0.5 for _ in row] for row in mask])
    d, i = metrics.dice(mask, other), metrics.iou(mask, other)
    assert 0 <= i <= d <= 1 and d == pytest.approx(2 * i / (1 + i))
    assert d == metrics.dice(other, mask)
    assert metrics.hd95(mask, other) == metrics.hd95(other, mask) <= metrics.diagonal(mask.shape)
    assert metrics.hd95(mask, mask) == 0


@pytest.mark.parametrize("measure", [metrics.dice, metrics.iou, metrics.hd95])
def test_only_bool_masks_of_one_size(measure):
    mask = np.ones((3, 4), bool)
    for other in (mask.astype(float), mask.T, mask[None]):
        with pytest.raises(ValueError, match="expected two bool masks"):
            measure(mask, other)


def test_without_scipy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(UserError, match=r"HD95 needs scipy.*vlseg\[score\]"):
        metrics.hd95(square(0, 0, 4), square(0, 2, 4))
    assert metrics.dice(square(0, 0, 4), square(0, 2, 4)) == 0.5
