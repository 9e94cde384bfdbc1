"""COCO RLE against COCO's own library where it is installed, and by itself."""

import json

import numpy as np
import pytest

from vlseg.deploy.errors import UserError
from vlseg.deploy.outputs.rle import bounding_box, from_rle, to_rle

RNG = np.random.default_rng(0)


def masks():
    yield np.zeros((5, 7), bool)
    yield np.ones((5, 7), bool)
    yield np.ones((1, 1), bool)
    yield np.eye(9, dtype=bool)
    yield np.ones((300, 1), bool)
    for share in (0.02, 0.5, 0.98):
        for shape in ((1, 50), (50, 1), (37, 53), (500, 400)):
            yield RNG.random(shape) < share
    blob = np.zeros((700, 900), bool)
    blob[100:650, 33:800] = True
    yield blob


@pytest.mark.parametrize("mask", list(masks()), ids=lambda mask: str(mask.shape))
def test_there_and_back(mask):
    rle = json.loads(json.dumps(to_rle(mask)))
    assert rle["size"] == list(mask.shape) and np.array_equal(from_rle(rle), mask)


@pytest.mark.parametrize("mask", list(masks()), ids=lambda mask: str(mask.shape))
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of its own code on numpy 2
def test_coco_s_own_library_agrees(mask):
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert to_rle(mask)["counts"] == theirs["counts"].decode()
    assert np.array_equal(coco.decode(to_rle(mask)), mask) and coco.area(to_rle(mask)) == mask.sum()
    if mask.any():
        assert coco.toBbox(to_rle(mask)).tolist() == bounding_box(mask)


def test_a_known_encoding():
    """Runs 6, 1, 40, 4, 5, 4, 5, 4, 21, the example in COCO's documentation of the format by hand."""
    flat = np.repeat([False, True] * 5, [6, 1, 40, 4, 5, 4, 5, 4, 21, 0])
    assert to_rle(flat.reshape(9, 10).T)["counts"] == "61X13mN000`0"


def test_runs_that_do_not_add_up():
    rle = to_rle(np.eye(4, dtype=bool))
    with pytest.raises(UserError, match="expected 5 x 4"):
        from_rle(rle | {"size": [5, 4]})


def test_the_box_of_nothing():
    assert bounding_box(np.zeros((4, 5), bool)) == [0, 0, 0, 0]
