"""Timing things side by side, so that whatever the machine does falls on all of them."""

import random
import time
from collections.abc import Callable, Mapping

Clock = Callable[[], float]


def interleave(
    arms: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 3, clock: Clock = time.perf_counter
) -> dict[str, list[float]]:
    """Return the seconds each arm took, one for each round; a round runs every arm once, in an order drawn anew."""
    order, draw = list(arms), random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(warmup + rounds):
        draw.shuffle(order)
        for name in order:
            start = clock()
            arms[name]()
            if turn >= warmup:
                times[name].append(clock() - start)
    return times
