"""Timing things side by side, so that whatever the machine does at a moment falls on all of them."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from .plan import Plan, Task

TOLERANCE = 0.05
"""Two windows of warm-up whose medians differ by less than this share are called steady."""


@dataclass
class Series:
    """The times of one task.

    Attributes:
        times: milliseconds, one for each timed round.
        warming: milliseconds of the rounds before.
        steady: did the warm-up settle? None where there was none.
    """

    times: list[float] = field(default_factory=list)
    warming: list[float] = field(default_factory=list)
    steady: bool | None = None


def interleave(tasks: Sequence[Task], plan: Plan, step: Callable[[int], None] = lambda done: None) -> list[Series]:
    """Return the times of each task; a round runs every task once, in an order drawn anew.

    `step` is told after each timed round how many are done; what it raises ends the measurement.
    The warm-up takes at least `plan.warmup` rounds and ends when every task has once been steady, or after `plan.most`.
    """
    series, draw = [Series() for _ in tasks], random.Random(0)
    if plan.warmup:
        for one in series:
            one.steady = False
        while len(series[0].warming) < plan.warmup or not all(one.steady for one in series):
            if len(series[0].warming) >= max(plan.most, plan.warmup):
                break
            _round(tasks, draw, [one.warming for one in series])
            for one in series:
                one.steady = one.steady or steady(one.warming, plan.warmup)
    for done in range(plan.repeats):
        _round(tasks, draw, [one.times for one in series])
        step(done + 1)
    return series


def steady(times: Sequence[float], window: int) -> bool:
    """Do the last `window` times and those before them have the same median, within `TOLERANCE`?"""
    if len(times) < 2 * window:
        return False
    last, before = np.median(times[-window:]), np.median(times[-2 * window : -window])
    return bool(abs(last / before - 1) <= TOLERANCE)


def _round(tasks: Sequence[Task], draw: random.Random, into: Sequence[list[float]]) -> None:
    order = list(range(len(tasks)))
    draw.shuffle(order)
    for i in order:
        tasks[i].prepare()
        start = perf_counter()
        tasks[i].call()
        into[i].append((perf_counter() - start) * 1000)
