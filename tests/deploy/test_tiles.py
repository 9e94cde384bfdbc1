"""Tiles cover every pixel, overlap as asked, and blend to what each of them says."""

import numpy as np
import pytest

from vlseg.deploy.errors import UserError
from vlseg.deploy.segmenter import Segmenter
from vlseg.deploy.tiles import blend, lay

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (17, 40), (100, 333), (5, 1000)])
@pytest.mark.parametrize("side", [1, 16, 50])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
def test_tiles_cover_and_overlap(shape, side, overlap):
    grid = lay(shape, side, overlap)
    covered = np.zeros(shape, int)
    for place in grid:
        assert covered[place].shape == (min(side, shape[0]), min(side, shape[1]))
        covered[place] += 1
    assert covered.min() >= 1 and len(list(grid)) == len(grid)
    for starts, length in ((grid.tops, grid.height), (grid.lefts, grid.width)):
        steps = np.diff(starts)
        assert (steps <= max(1, int(length * (1 - overlap)))).all() and (steps > 0).all()


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_tiles_that_agree_are_given_back(batch):
    image = RNG.integers(0, 256, (70, 111, 3), dtype=np.uint8)
    seen = []

    def ask(tiles):
        seen.append(len(tiles))
        return [tile[..., 0].astype(np.float32) / 255 for tile in tiles]

    told = []
    grid = lay((70, 111), 32, 0.25)
    found = blend(image, grid, ask, batch, lambda done, total: told.append((done, total)))
    assert found.dtype == np.float32 and np.abs(found - image[..., 0] / 255).max() < 1e-5
    assert max(seen) <= batch and sum(seen) == len(grid) and told[-1] == (len(grid), len(grid))


def test_seams_are_smooth_where_tiles_disagree():
    answers = iter(RNG.random(1000))
    image = np.zeros((8, 400, 3), np.uint8)
    found = blend(image, lay((8, 400), 64, 0.5), lambda tiles: [np.full((8, 64), next(answers), np.float32)])
    assert np.abs(np.diff(found[4])).max() < 0.08 and found.min() >= 0 and found.max() <= 1


@pytest.mark.parametrize(("side", "overlap"), [(0, 0.25), (-1, 0.25), (16, -0.1), (16, 0.95), (16, float("nan"))])
def test_tiles_that_cannot_be(side, overlap):
    with pytest.raises(UserError, match="expected a side from 1"):
        lay((50, 50), side, overlap)


def test_a_picture_of_one_tile_is_the_picture(toy_bundle, colours):
    with Segmenter.open(toy_bundle) as segmenter:
        whole, tiled = segmenter.run(colours[0], "red"), segmenter.tiled(colours[0], "red", side=100)
        assert np.abs(whole.probability - tiled.probability).max() < 1e-6
        assert np.array_equal(whole.mask, tiled.mask) and tiled.timings.image > 0


def test_a_small_object_in_a_large_picture(toy_bundle):
    """Shrunk to the model's 16 pixels it is lost; in tiles of 32 it is found where it lies."""
    image = np.full((400, 600, 3), 20, np.uint8)
    image[203:211, 501:509, 0] = 250
    truth = image[..., 0] > 100
    with Segmenter.open(toy_bundle) as segmenter:
        assert not segmenter.segment(image, "red").any()
        for batch in (1, 5):
            mask = segmenter.tiled(image, "red", side=32, overlap=0.5, batch=batch).mask
            assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.8
        assert len(segmenter._caches["image"]) == 1  # of the whole picture; tiles are not kept
