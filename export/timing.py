"""Timing things side by side, so that whatever the machine does falls on all of them."""

import random
import time
from collections.abc import Callable, Mapping

Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.thread_time}
"""`cpu` leaves out what other processes take, and is right where one thread does all the work."""
Times = dict[str, list[float]]
"""Seconds by arm, one for each round."""


def interleave(arms: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 3) -> dict[str, Times]:
    """Return the times of each arm by clock; a round runs every arm once, in an order drawn anew."""
    order, draw = list(arms), random.Random(0)
    times: dict[str, Times] = {clock: {name: [] for name in arms} for clock in CLOCKS}
    for turn in range(warmup + rounds):
        draw.shuffle(order)
        for name in order:
            taken = clocked(arms[name])
            if turn >= warmup:
                for clock, seconds in taken.items():
                    times[clock][name].append(seconds)
    return times


def clocked(call: Callable[[], object]) -> dict[str, float]:
    """Run `call` and return its seconds by clock."""
    start = {name: clock() for name, clock in CLOCKS.items()}
    call()
    return {name: clock() - start[name] for name, clock in CLOCKS.items()}
