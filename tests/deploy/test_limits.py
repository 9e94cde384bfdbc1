"""How far an engine may stray, by precision."""

import numpy as np
import pytest

from vlseg.deploy.metrics import dice
from vlseg.deploy.parity import LIMITS


def spot(count):
    mask = np.zeros((100, 100), bool)
    mask.flat[:count] = True
    return mask


@pytest.mark.parametrize("precision", LIMITS)
def test_dice_of_masks_that_are_large_enough(precision):
    assert LIMITS[precision].dice_of(spot(300), spot(310)) == dice(spot(300), spot(310)) < 1


def test_a_handful_of_pixels_is_judged_by_dice_in_fp32_and_fp16_alone():
    for precision, limit in LIMITS.items():
        exact = precision in ("fp32", "fp16")
        assert limit.dice_of(spot(9), spot(4)) == (dice(spot(9), spot(4)) if exact else 1)
        # one of the two large enough is enough: an object that vanishes is seen
        assert limit.dice_of(spot(0), spot(20)) == 0


def test_eight_bits_have_one_limit():
    assert LIMITS["int8"] == LIMITS["int8-fp16"] == LIMITS["fp8"]
    assert (LIMITS["int8"].dice, LIMITS["int8"].flipped) == (0.97, 0.01)
