import numpy as np
import pytest

from vlseg.deploy.stats import paired_ratio, summary


def test_a_constant_ratio_has_no_spread():
    b = np.random.default_rng(0).uniform(1, 9, 41)
    ratio = paired_ratio(1.25 * b, b)
    assert ratio == pytest.approx((1.25, 1.25, 1.25, 41))


def test_pairing_sees_through_drift():
    rng = np.random.default_rng(1)
    drift = np.linspace(1, 10, 60)
    ratio = paired_ratio(1.05 * drift * rng.normal(1, 0.01, 60), drift * rng.normal(1, 0.01, 60))
    assert ratio.low < 1.05 < ratio.high and ratio.high - ratio.low < 0.02


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng, inside = np.random.default_rng(2), 0
    for seed in range(200):
        b = rng.uniform(1, 2, 40)
        ratio = paired_ratio(b * np.exp(rng.normal(0, 0.2, 40)), b, resamples=500, seed=seed)
        assert ratio.low <= ratio.median <= ratio.high
        inside += ratio.low <= 1 <= ratio.high
    assert 180 <= inside <= 199


def test_it_can_be_repeated():
    a, b = np.random.default_rng(3).uniform(1, 2, (2, 30))
    assert paired_ratio(a, b) == paired_ratio(a, b)
    assert paired_ratio(a, b, seed=1) != paired_ratio(a, b, seed=2)


@pytest.mark.parametrize(("a", "b"), [([1.0], [1.0, 2.0]), ([], [])])
def test_series_must_pair(a, b):
    with pytest.raises(ValueError, match="as many pairs"):
        paired_ratio(a, b)


def test_summary_by_hand():
    figures = summary([float(i) for i in range(1, 102)])
    assert figures == pytest.approx(
        {"p50_ms": 51, "p90_ms": 91, "p99_ms": 100, "mean_ms": 51, "cv": 29.1548 / 51}, 1e-4
    )
