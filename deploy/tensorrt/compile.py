"""One engine from one ONNX part: TensorRT's builder, its errors in one sentence, Ctrl-C heard."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import EngineError
from . import timing_cache
from .budget import Budget, out_of_memory
from .log import ear, first_error, ran_out
from .network import dims_of, parse
from .plans import Key
from .progress import Tell, interruptible, monitor


@dataclass(frozen=True)
class Order:
    """What is to be built: the part's file and shapes, what it may take, and where timings are kept."""

    path: Path
    part: str
    dims: dict[str, tuple[int, ...]]
    key: Key
    budget: Budget
    timings: Path


def compile_engine(trt: Any, order: Order, free: int, tell: Tell) -> tuple[bytes, float]:
    """Return the bytes of an engine and the seconds that it took.

    Raises:
        EngineError: the part cannot be read or built, or memory ran out; `free` bytes were free before.
        KeyboardInterrupt: Ctrl-C; nothing was written.
    """
    start, cancelled = time.perf_counter(), threading.Event()
    data = interruptible(lambda: _compile(trt, order, free, tell, cancelled), cancelled)
    return data, time.perf_counter() - start


def _compile(trt: Any, order: Order, free: int, tell: Tell, cancelled: threading.Event) -> bytes:
    heard = ear(trt)
    builder = trt.Builder(heard)
    network = parse(trt, builder, heard, order.path, order.dims, order.key.plugins)
    for name in order.key.refit:
        if not network.network.mark_weights_refittable(name):
            raise EngineError(f"{order.path.name} has no weights {name!r} that could be exchanged later: export again")
    config = _config(trt, builder, order)
    config.progress_monitor = monitor(trt, tell, cancelled)
    config.add_optimization_profile(_profile(builder, order.dims))
    timing_cache.attach(config, order.timings)
    plan = builder.build_serialized_network(network.network, config)
    if plan is None:
        raise EngineError(_why(order, heard.lines, free, cancelled))
    timing_cache.keep(config, order.timings)
    return bytes(plan)


def _config(trt: Any, builder: Any, order: Order) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, order.budget.workspace)
    config.builder_optimization_level = order.budget.level
    config.profiling_verbosity = trt.ProfilingVerbosity.LAYER_NAMES_ONLY
    # TF32 would round fp32 products to 10 bits, which an fp32 bundle does not promise
    config.clear_flag(trt.BuilderFlag.TF32)
    if order.key.refit:
        config.set_flag(trt.BuilderFlag.REFIT_INDIVIDUAL)
    return config


def _profile(builder: Any, dims: dict[str, tuple[int, ...]]) -> Any:
    """Return a profile of one shape: an engine for each batch size, so that a graph can replay it."""
    profile = builder.create_optimization_profile()
    for name, shape in dims.items():
        profile.set_shape(name, shape, shape, shape)
    return profile


def _why(order: Order, lines: list[tuple[bool, str]], free: int, cancelled: threading.Event) -> str:
    if cancelled.is_set():
        return "the build was stopped"
    what = f"the {order.part} engine for batch {order.key.batch}"
    if ran_out(lines):
        return out_of_memory(what, free, order.budget)
    return f"TensorRT {order.key.tensorrt} cannot build {what}: {first_error(lines)}"


def order_of(folder: Path, manifest: Any, part: str, key: Key, budget: Budget, timings: Path) -> Order:
    """Return the order for one part of a bundle."""
    path = folder / str(manifest.parts[part])
    return Order(path, part, dims_of(manifest, part, key.batch), key, budget, timings)
