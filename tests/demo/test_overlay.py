import numpy as np
import pytest

from vlseg.demo.overlay import draw_mask, overlay


@pytest.mark.parametrize("threshold", [0.2, 0.8])
def test_it_draws_the_mask_at_the_threshold(threshold):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (61, 83, 3), dtype=np.uint8)
    probability = np.tile(np.linspace(0, 1, 83, dtype=np.float32), (61, 1))
    drawn = overlay(image, probability, threshold, 0.4)
    assert np.array_equal(drawn, draw_mask(image, probability > threshold, 0.4))
    assert np.array_equal(drawn[:, : int(83 * threshold) - 3], image[:, : int(83 * threshold) - 3])
