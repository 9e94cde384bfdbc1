import numpy as np
import pytest

from vlseg.demo.scores import scores
from vlseg.deploy.metrics import dice, hd95, iou


def test_they_are_the_runtimes_own_metrics():
    rng = np.random.default_rng(0)
    mask, true = rng.random((2, 30, 40)) > 0.6
    told = scores(mask, true)
    assert told == {
        "Dice": f"{dice(mask, true):.3f}",
        "IoU": f"{iou(mask, true):.3f}",
        "HD95": f"{hd95(mask, true):.1f} px",
    }


def test_one_empty_mask_has_no_distance():
    true = np.eye(5, dtype=bool)
    assert scores(~true & true, true)["HD95"] == "one mask is empty"


def test_without_scipy_it_says_so(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert scores(np.eye(5, dtype=bool), np.eye(5, dtype=bool)) == {
        "Dice": "1.000",
        "IoU": "1.000",
        "HD95": "needs scipy",
    }


@pytest.mark.parametrize("shift", [0, 3])
def test_a_shifted_square_is_as_far_as_it_was_shifted(shift):
    true, mask = np.zeros((2, 40, 40), bool)
    true[10:20, 10:20], mask[10:20, 10 + shift : 20 + shift] = True, True
    assert scores(mask, true)["HD95"] == f"{shift:.1f} px"
