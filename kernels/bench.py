"""Measure the operators: `vlseg kernels bench`, or `python -m vlseg.kernels.bench` from a bare checkout.

On a GPU every row holds its time, bytes, operations, the two ceilings measured in the same run, and the shares of them.
On a CPU the two forms of the reference text pooling are compared, in turns, as a ratio. With the interpreter the whole
GPU path runs at tiny sizes, which proves it runnable and says nothing of speed.
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from . import forms, reference, timing
from .cases import Place, attention_weights
from .goals import table, verdicts


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
        attention, first, second = attention_weights(Place("cpu", torch.float32), width, inner)
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

    Raises:
        ValueError: `tiny` outside of the interpreter, or `tune` without a GPU.
    """
    if tiny and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError("tiny sizes run in Triton's interpreter: expected TRITON_INTERPRET=1 in the environment")
    if tune and not (tiny or torch.cuda.is_available()):
        raise ValueError("there is nothing to tune: expected a CUDA device, or tiny sizes in the interpreter")
    rows: list[dict[str, Any]] = []
    source = _gpu_rows(tiny, seconds, tune) if tiny or torch.cuda.is_available() else cpu_rows(repeats=repeats)
    for row in source:
        rows.append(row)
        if out is not None:
            timing.append_rows(Path(out) / "kernels.csv", [row])
    return rows


def _gpu_rows(tiny: bool, seconds: float, tune: bool) -> Iterator[dict[str, Any]]:
    """Return the rows of `gpu.rows`, which alone needs triton."""
    from . import gpu

    return gpu.rows(tiny, seconds, tune)


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
    print(verdicts(rows))


if __name__ == "__main__":
    main()
