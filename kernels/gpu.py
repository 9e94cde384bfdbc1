"""The operators timed on a GPU, or in the interpreter at tiny sizes: implementations, passes, and the tuning."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from triton.errors import TritonError

from . import tiles, timing
from .cases import Case, Place, cases

IMPLS = ("fused", "eager", "compile")

FAILURES = (RuntimeError, TritonError)
"""What a launch that does not fit, a compile that fails or memory that runs out raises; one case must not end a run."""


def rows(tiny: bool, seconds: float, tuned: bool) -> Iterator[dict[str, Any]]:
    """Yield a row for every case, implementation, pass and launch, until `seconds` have passed, compiled ones last."""
    start = time.monotonic()
    place = Place("cpu", torch.float32) if tiny else Place("cuda", torch.float16)
    common = timing.circumstances(place.device) | {"dtype": str(place.dtype).removeprefix("torch.")}
    common |= {"note": "Triton's interpreter, proves nothing of speed"} if tiny else {}
    top = timing.ceilings(*place, *((4, 128) if tiny else (1024, 8192)))
    for impl in IMPLS:
        for case in cases(place, tiny):
            if time.monotonic() - start > seconds:
                yield common | case.columns | {"impl": impl, "note": f"not measured: {seconds:.0f} s were over"}
                continue
            try:
                if tuned and impl == "fused":
                    tune(case, torch.device(place.device))
                yield from (common | row for row in measure(case, impl, place.device, top))
            except FAILURES as error:
                yield common | case.columns | {"impl": impl, "note": f"failed: {(str(error) or repr(error))[:200]!r}"}
            if tiny and impl == "compile":
                break  # a compile takes longer than all the rest


def measure(case: Case, impl: str, device: str, top: timing.Ceilings) -> Iterator[dict[str, Any]]:
    """Yield the rows of one case and implementation: each pass, launched and graphed."""
    for name, call in passes(case, impl).items():
        work = case.forward if name == "forward" else case.both
        for launch in ("plain", "graph") if device == "cuda" else ("interpreter",):
            times = timing.timed(call, device, graphed=launch == "graph")
            row = {"impl": impl, "pass": name, "launch": launch, "peak_mib": round(timing.peak_mib(call, device), 2)}
            row |= {f"ms_{key}": round(value, 5) for key, value in times._asdict().items()}
            yield case.columns | row | work._asdict() | top.columns() | top.shares(*work, times.p50)


def passes(case: Case, impl: str) -> dict[str, Callable[[], object]]:
    """Return the calls to time: forward alone, and forward with backward."""
    run = case.run
    if impl == "compile":
        run = torch.compile(run, mode="max-autotune-no-cudagraphs")
    named = "fused" if impl == "fused" else "reference"
    gradient = torch.randn_like(case.run("reference"))

    def forward() -> object:
        with torch.no_grad():
            return run(named)

    def both() -> object:
        return torch.autograd.grad(run(named), case.leaves, gradient, allow_unused=True)

    return {"forward": forward, "forward+backward": both}


def tune(case: Case, device: torch.device) -> dict[str, tiles.Tile]:
    """Time the candidate tiles of every kernel that a case launches, keep the best for this architecture, return them.

    A tile that does not fit the GPU is passed over. The forward kernels are timed forward, the others with a backward.
    """
    found: dict[str, tiles.Tile] = {}
    for call in passes(case, "fused").values():
        with tiles.watched() as choices:
            call()
        for choice in choices:
            if choice.key not in found:
                found[choice.key] = _best(choice, call, device)
    tiles.keep_tuned(tiles.architecture(device), found)
    return found


def _best(choice: tiles.Choice, call: Callable[[], object], device: torch.device) -> tiles.Tile:
    """Return the fastest of a choice's candidates."""
    times = {}
    for tile in tiles.candidates(choice.kernel, choice.default):
        with tiles.forced(tile, choice.kernel):
            try:
                times[tile] = timing.timed(call, device.type, graphed=True).p50
            except FAILURES:
                continue
    return min(times, key=lambda tile: times[tile]) if times else choice.default
