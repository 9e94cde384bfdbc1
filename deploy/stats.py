"""How timings are put into figures: percentiles of one series, and the ratio of two measured side by side."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Ratio(NamedTuple):
    """The median of a / b over `pairs` pairs, and the 95 % bootstrap interval of that median."""

    median: float
    low: float
    high: float
    pairs: int


def paired_ratio(a: Sequence[float], b: Sequence[float], resamples: int = 2000, seed: int = 0) -> Ratio:
    """Return the median ratio of two series measured pair by pair, with its bootstrap 95 % interval.

    Pairs share what the machine did at that moment, so their ratio holds still where the times do not. The interval is
    the percentile bootstrap (Efron 1979): medians of `resamples` draws of the pairs, with replacement.
    """
    if len(a) != len(b) or not len(a):
        raise ValueError(f"series have {len(a)} and {len(b)} values, expected as many pairs, at least one")
    ratios = np.asarray(a, np.float64) / np.asarray(b, np.float64)
    draws = np.random.default_rng(seed).integers(0, len(ratios), (resamples, len(ratios)))
    low, high = np.percentile(np.median(ratios[draws], axis=1), [2.5, 97.5])
    return Ratio(float(np.median(ratios)), float(low), float(high), len(ratios))


def summary(times_ms: Sequence[float]) -> dict[str, float]:
    """Return p50_ms, p90_ms, p99_ms, mean_ms and cv (standard deviation / mean) of times in milliseconds."""
    times = np.asarray(times_ms, np.float64)
    p50, p90, p99 = np.percentile(times, [50, 90, 99])
    mean = times.mean()
    return {
        "p50_ms": float(p50),
        "p90_ms": float(p90),
        "p99_ms": float(p99),
        "mean_ms": float(mean),
        "cv": float(times.std() / mean),
    }
