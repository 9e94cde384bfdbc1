"""Measure the operators: `python -m vlseg.kernels.bench`, or `vlseg kernels bench`.

On a GPU every row holds its time, bytes, operations and share of the ceilings measured in the same run. On a CPU the
two forms of the reference text pooling are compared, in turns, as a ratio. With the interpreter the whole GPU path runs
at tiny sizes, which proves it runnable and says nothing of speed.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import cost, forms, ops, reference, tiles, timing

IMPLS = ("fused", "eager", "compile")


class Case(NamedTuple):
    """One operator at one shape: a function of the implementation, its leaves, its cost, and a row's columns."""

    run: Callable[[str], Tensor]
    leaves: list[Tensor]
    forward: cost.Cost
    both: cost.Cost | None
    columns: dict[str, Any]


def _tensor(device: str, dtype: torch.dtype, *shape: int) -> Tensor:
    """Return a leaf of the spread that trained weights have."""
    return (torch.randn(*shape) * shape[-1] ** -0.5).to(device, dtype).requires_grad_()


def bottleneck_case(device: str, dtype: torch.dtype, batch: int, tokens: int, width: int, rank: int) -> Case:
    """Return the adapter of VLSM-Adapter at one shape."""
    shapes = ((batch, tokens, width), (rank, width), (rank,), (width, rank), (width,))
    leaves = [_tensor(device, dtype, *shape) for shape in shapes]
    columns = {"op": "bottleneck", "batch": batch, "tokens": tokens, "width": width, "rank": rank}
    forward, both = (cost.bottleneck(batch * tokens, width, rank, dtype.itemsize, back) for back in (False, True))
    return Case(lambda impl: ops.bottleneck(*leaves, impl=impl), leaves, forward, both, columns)  # pyright: ignore[reportArgumentType]


def _attention(device: str, dtype: torch.dtype, width: int, inner: int) -> tuple[ops.Attention, ops.Norm, ops.Norm]:
    """Return the weights of one cross-attention."""
    pair = (inner, width), (inner,)
    attention = ops.Attention(*(_tensor(device, dtype, *s) for s in (*pair, *pair, *pair, (width, inner), (width,))))
    norms = [ops.Norm(_tensor(device, dtype, width), _tensor(device, dtype, width)) for _ in range(2)]
    return attention, norms[0], norms[1]


def fusion_cases(device: str, dtype: torch.dtype, tokens: int, text: int, width: int, inner: int) -> Iterator[Case]:
    """Yield both halves of LGA's fusion at one number of text tokens."""
    vision, words = _tensor(device, dtype, 1, tokens, width), _tensor(device, dtype, 1, text, width)
    attention, first, second = _attention(device, dtype, width, inner)
    gamma = _tensor(device, dtype, width)
    shape = (1, tokens, text, width, inner, 1, dtype.itemsize)
    columns = {"batch": 1, "tokens": tokens, "text_tokens": text, "heads": 1, "width": width, "rank": inner}
    leaves = [vision, words, *attention]
    yield Case(
        lambda impl: ops.gated_cross_attention(vision, words, attention, first, second, gamma, impl=impl),  # pyright: ignore[reportArgumentType]
        leaves,
        cost.gated_cross_attention(*shape),
        None,
        columns | {"op": "gated_cross_attention", "form": forms.fusion_form(1, text, inner)},
    )
    yield Case(
        lambda impl: ops.text_pooling(words, vision, attention, second, first, impl=impl),  # pyright: ignore[reportArgumentType]
        leaves,
        cost.text_pooling(*shape),
        None,
        columns | {"op": "text_pooling", "form": forms.pooling_form(1, text, inner)},
    )


def cases(device: str, dtype: torch.dtype, tiny: bool) -> Iterator[Case]:
    """Yield every shape that the models use, or one tiny shape of each operator."""
    if tiny:
        yield bottleneck_case(device, dtype, 1, 19, 24, 6)
        yield from fusion_cases(device, dtype, 19, 1, 24, 8)
        return
    for tokens, width, rank in ((485, 768, 64), (4096, 768, 64), (4096, 768, 192), (77, 512, 64)):
        for batch in (1, 8, 32):
            yield bottleneck_case(device, dtype, batch, tokens, width, rank)
    for text in (1, 4, 16, 77):
        yield from fusion_cases(device, dtype, 4096, text, 768, 96)


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


def measure(case: Case, impl: str, device: str, top: timing.Ceilings | None) -> Iterator[dict[str, Any]]:
    """Yield the rows of one case and implementation: each pass, launched and graphed."""
    for name, call in passes(case, impl).items():
        work = case.forward if name == "forward" else case.both
        for launch in ("plain", "graph") if device == "cuda" else ("interpreter",):
            if device == "cuda":
                times, peak = timing.on_gpu(call, launch == "graph"), timing.peak_mib(call)
            else:
                times, peak = timing.quantiles(timing.interleaved([call], 2)[0]), 0.0
            row = {"impl": impl, "pass": name, "launch": launch, "peak_mib": round(peak, 2)}
            row |= {f"ms_{key}": round(value, 5) for key, value in times._asdict().items()}
            if work is not None:
                row |= {"bytes": work.bytes, "flops": work.flops}
                seconds = 1e-3 * times.p50
                row["share_of_copy"] = "" if top is None else round(work.bytes / seconds / top.copy, 3)
                row["share_of_matmul"] = "" if top is None else round(work.flops / seconds / top.matmul, 3)
            yield case.columns | row


def gpu_rows(tiny: bool, seconds: float, tune: bool) -> Iterator[dict[str, Any]]:
    """Yield a row for every case, implementation, pass and launch, until `seconds` have passed, compiled ones last."""
    device = "cpu" if tiny else "cuda"
    dtype = torch.float32 if tiny else torch.float16
    common = timing.circumstances(device) | {"dtype": str(dtype).removeprefix("torch.")}
    top = None if tiny else timing.ceilings()
    if top is not None:
        yield common | {"op": "copy", "note": f"{top.copy / 1e9:.0f} GB/s"}
        yield common | {"op": "matmul", "note": f"{top.matmul / 1e12:.1f} TFLOP/s"}
    start = time.monotonic()
    for impl in IMPLS[:2] if tiny else IMPLS:
        for case in cases(device, dtype, tiny):
            if time.monotonic() - start > seconds:
                yield common | case.columns | {"impl": impl, "note": f"not measured: {seconds:.0f} s were over"}
                continue
            if tune and impl == "fused" and case.columns["op"] == "bottleneck":
                tune_bottleneck(case, dtype)
            try:
                yield from (common | row for row in measure(case, impl, device, top))
            except RuntimeError as error:
                yield common | case.columns | {"impl": impl, "note": f"failed: {str(error).splitlines()[0]}"}


def tune_bottleneck(case: Case, dtype: torch.dtype) -> None:
    """Time the forward kernel's candidate tiles on the GPU at hand and keep the best for this architecture."""
    rank, tokens = case.columns["rank"], case.columns["batch"] * case.columns["tokens"]
    default = tiles.forward_tile(dtype, forms.power_of_two(rank, 16), tokens)
    found = {}
    for tile in tiles.candidates(default):
        with tiles.forced(tile), torch.no_grad():
            found[tile] = timing.on_gpu(lambda: case.run("fused"), graphed=True).p50
    best = min(found, key=lambda tile: found[tile])
    key = tiles.shape_key("bottleneck_forward", dtype, rank, tokens)
    tiles.keep_tuned(tiles.architecture(torch.cuda.current_device()), {key: best})


def cpu_rows(
    tokens: int = 4096, width: int = 768, inner: int = 96, repeats: int = 15, counts: tuple[int, ...] = (1, 4, 16, 77)
) -> Iterator[dict[str, Any]]:
    """Yield the reference text pooling, absorbed against plain, taken in turns: a row for each number of text tokens.

    The ratio is that of each pair, plain over absorbed; the layer norm is part of both.
    """
    common = timing.circumstances("cpu") | {"dtype": "float32", "repeats": repeats}
    for text in counts:
        torch.manual_seed(0)
        vision, words = torch.randn(1, tokens, width), torch.randn(1, text, width)
        attention, first, second = _attention("cpu", torch.float32, width, inner)
        arguments = (words, vision, attention, second, first)
        with torch.inference_mode():
            plain, absorbed = timing.interleaved(
                [
                    lambda a=arguments: reference.text_pooling(*a),
                    lambda a=arguments: reference.absorbed_text_pooling(*a),
                ],
                repeats,
            )
        ratio = timing.quantiles([p / a for p, a in zip(plain, absorbed, strict=True)])
        columns = {"op": "text_pooling", "pass": "forward", "launch": "cpu", "batch": 1, "tokens": tokens}
        columns |= {"text_tokens": text, "heads": 1, "width": width, "rank": inner}
        columns["note"] = f"thread CPU time; the operator takes the {forms.pooling_form(1, text, inner)} form here"
        for form, values in (("plain", plain), ("absorbed", absorbed)):
            times = timing.quantiles(values)
            row = {f"ms_{key}": round(value, 3) for key, value in times._asdict().items()}
            if form == "absorbed":
                row |= {f"ratio_{key}": round(value, 2) for key, value in ratio._asdict().items()}
            yield common | columns | row | {"impl": "reference", "form": form}


def bench(
    out: str | Path | None = None, *, tiny: bool = False, seconds: float = 240, tune: bool = False, repeats: int = 15
) -> list[dict[str, Any]]:
    """Measure what this machine can, append the rows to `out`/kernels.csv where given, and return them.

    Args:
        out: a folder for the rows, or None.
        tiny: run the GPU path in the interpreter at tiny sizes (TRITON_INTERPRET=1), to prove that it runs.
        seconds: when to stop starting GPU cases; what is left is named in its row.
        tune: time candidate tiles first and keep the best for this architecture.
        repeats: pairs for each CPU ratio.
    """
    rows: list[dict[str, Any]] = []
    source = gpu_rows(tiny, seconds, tune) if tiny or torch.cuda.is_available() else cpu_rows(repeats=repeats)
    for row in source:
        rows.append(row)
        if out is not None:
            timing.append_rows(Path(out) / "kernels.csv", [row])
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a short table."""
    names = (
        "op",
        "form",
        "impl",
        "pass",
        "launch",
        "batch",
        "tokens",
        "text_tokens",
        "rank",
        "ms_p50",
        "ratio_p50",
        "note",
    )
    lines = ["  ".join(names)]
    return "\n".join(lines + ["  ".join(str(row.get(name, "")) for name in names) for row in rows])


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default=os.environ.get("OUT"), help="folder for kernels.csv (default: $OUT)")
    parser.add_argument("--tiny", action="store_true", help="prove the GPU path in the interpreter at tiny sizes")
    parser.add_argument("--tune", action="store_true", help="time candidate tiles first and keep the best")
    parser.add_argument("--seconds", type=float, default=240, help="when to stop starting GPU cases")
    parser.add_argument("--repeats", type=int, default=15, help="pairs for each CPU ratio")
    options = parser.parse_args()
    rows = bench(options.out, tiny=options.tiny, seconds=options.seconds, tune=options.tune, repeats=options.repeats)
    print(table(rows))


if __name__ == "__main__":
    main()
