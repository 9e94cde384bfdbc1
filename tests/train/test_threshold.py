import numpy as np
import pytest

from vlseg.deploy.annotations import read_split
from vlseg.deploy.pixels import read_mask
from vlseg.train.threshold import GRID, choose_threshold


def test_the_grid():
    assert GRID[0] == 0.1 and GRID[-1] == 0.9 and 0.5 in GRID and len(GRID) == 17


def test_the_best_dice_wins(shapes):
    samples = read_split(shapes, "val")
    masks = iter([read_mask(sample.mask) for sample in samples])

    def halo(image, prompt):
        """The object at 0.8, and a sure halo at 0.62 around it."""
        mask = next(masks)
        wide = mask | np.roll(mask, 3, axis=1)
        return np.where(mask, 0.8, np.where(wide, 0.62, 0.0)).astype(np.float32)

    level, dice = choose_threshold(halo, samples, "p1")
    assert level == 0.65 and dice == 1.0


def test_equal_ones_go_to_the_middle(shapes):
    samples = read_split(shapes, "val")
    level, dice = choose_threshold(lambda image, prompt: np.zeros(image.shape[:2]), samples, "p1")
    assert level == 0.5 and dice == pytest.approx(0)
