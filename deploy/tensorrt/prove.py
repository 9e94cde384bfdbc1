"""An engine that was just built: loaded, compared, timed."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from ..engines.trt import TensorRT
from ..errors import EngineError
from ..manifest import Manifest
from .answers import Arrays
from .cuda import Cuda
from .log import ear
from .runtime import Static

ROUNDS, WARMUP = 60, 10


def load(
    trt: Any, cuda: Cuda, manifest: Manifest, data: bytes, part: str, batch: int, say: Callable[[str], None]
) -> tuple[TensorRT, bool]:
    """Return an engine of one batch size ready to run, and whether a CUDA graph replays it.

    Some tactics cannot be recorded; such an engine is launched call by call, and `say` is told.
    """
    what = f"the {part} engine for batch {batch}"
    try:
        static, graph = Static(trt, cuda, ear(trt), data, what), True
    except EngineError as error:
        if "Capture" not in str(error):
            raise
        say(f"{what} cannot be replayed from a CUDA graph ({error})")
        static, graph = Static(trt, cuda, ear(trt), data, what, graph=False), False
    return TensorRT(part, {batch: static}, manifest.axes[part], manifest.flow[part]["outputs"]), graph


def full_batch(manifest: Manifest, part: str, answers: Arrays, batch: int) -> Arrays:
    """Return the stored inputs of a part, repeated to a batch."""
    given = {name: answers[name] for name in manifest.flow[part]["inputs"]}
    return {name: array[[i % len(array) for i in range(batch)]] for name, array in given.items()}


def times(engines: Sequence[TensorRT], inputs: Arrays) -> list[list[float]]:
    """Return milliseconds of each engine, run in turns, the first rounds left out."""
    taken: list[list[float]] = [[] for _ in engines]
    for turn in range(WARMUP + ROUNDS):
        order = list(enumerate(engines))
        for i, engine in order if turn % 2 else reversed(order):
            start = time.perf_counter()
            engine.run(inputs)
            if turn >= WARMUP:
                taken[i].append((time.perf_counter() - start) * 1000)
    return taken


def median(values: Sequence[float]) -> float:
    """Return the middle value, rounded to four places."""
    return round(sorted(values)[len(values) // 2], 4)
