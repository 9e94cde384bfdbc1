"""Sustained load: does a device still give after ten minutes what it gave in the first?"""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ..facts import ROOT, rss_mib
from ..stats import summary
from .device import cpu_mhz, throttles
from .plan import Subject, Task
from .power import Meter, find_meter

BUCKETS = 20
SLOWER = 1.05
"""Called slowed down where the last quarter's median is longer than the first's by more than this."""
DROP = 0.95
"""Called a clock drop where a bucket's clock is below this share of the first bucket's."""


def sustain(
    subject: Subject, task: Task, seconds: float, tell: Callable[[int, int], None] | None = None, root: Path = ROOT
) -> dict[str, Any]:
    """Run one task without a pause and return how it went over time.

    Keys: bundle, adapter, engine, seconds, runs, `p50_ms` to `cv` over all runs, `buckets` (20 of equal length:
    `runs_per_s`, `p50_ms`, `p99_ms`, `cpu_mhz`, `gpu_mhz`, `celsius`, `watts`, `rss_mib`) and `flags`, a sentence for
    each thing that was not steady.
    """
    meter, before = find_meter(), throttles(root)
    length = seconds / BUCKETS
    buckets, times = list[dict[str, Any]](), list[float]()
    with meter or nullcontext():
        start = perf_counter()
        while len(buckets) < BUCKETS:
            end = start + (len(buckets) + 1) * length
            begun = perf_counter()
            took = _until(end, task)
            times += took
            buckets.append(_bucket(took, begun, meter, root))
            if tell:
                tell(len(buckets), BUCKETS)
    held = sorted({name for reading in (meter.readings if meter else []) for name in reading.held_by})
    after = throttles(root)
    flags = [*flags_of(buckets), *(f"the GPU's clock was held down by: {name}" for name in held)]
    if before is not None and after is not None and after > before:
        flags.append(f"the processor was slowed for heat {after - before} times")
    whose = {"bundle": subject.bundle, "adapter": subject.adapter or None, "engine": subject.segmenter.engine}
    return {**whose, "seconds": seconds, "runs": len(times), **summary(times), "buckets": buckets, "flags": flags}


def flags_of(buckets: list[dict[str, Any]]) -> list[str]:
    """Return a sentence for a slow-down, for each kind of clock that dropped, and for memory that grows."""
    flags, quarter = [], max(1, len(buckets) // 4)
    first, last = (
        float(np.median([one["p50_ms"] for one in part])) for part in (buckets[:quarter], buckets[-quarter:])
    )
    if last > SLOWER * first:
        flags.append(f"slowed down: the last quarter takes {last / first:.2f} times as long as the first")
    for key, name in (("cpu_mhz", "processor"), ("gpu_mhz", "GPU")):
        clocks = [one[key] for one in buckets if one[key]]
        if clocks and min(clocks) < DROP * clocks[0]:
            flags.append(f"the {name}'s clock dropped from {clocks[0]:.0f} to {min(clocks):.0f} MHz")
    memory = [one["rss_mib"] for one in buckets if one["rss_mib"]]
    if len(memory) > 2 and memory[-1] > 1.02 * memory[1]:
        flags.append(f"memory grew from {memory[1]:.0f} to {memory[-1]:.0f} MiB")
    return flags


def _until(end: float, task: Task) -> list[float]:
    """Return the milliseconds of each run until `end`, one at least."""
    times = list[float]()
    while not times or perf_counter() < end:
        task.prepare()
        begun = perf_counter()
        task.call()
        times.append((perf_counter() - begun) * 1000)
    return times


def _bucket(times: list[float], start: float, meter: Meter | None, root: Path) -> dict[str, Any]:
    """Return how the runs since `start` went."""
    now = perf_counter()
    told = meter.between(start, now) if meter else []
    return {
        "runs": len(times),
        "runs_per_s": len(times) / (now - start),
        "p50_ms": float(np.median(times)),
        "p99_ms": float(np.percentile(times, 99)),
        "cpu_mhz": cpu_mhz(root),
        "gpu_mhz": _mean([one.mhz for one in told]),
        "celsius": _mean([one.celsius for one in told]),
        "watts": _mean([one.watts for one in told]),
        "rss_mib": rss_mib(root),
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
