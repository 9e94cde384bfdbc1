"""What LGA costs on a CPU, as rows of a CSV: memory of a training step, exact modules against naive ones, image sizes.

`python -m vlseg.train.lga_cost step|modules|sizes --csv docs/measured/lga.csv`, one thread, random weights. Ratios come
from interleaved pairs on the clock of the thread, which leaves out what other processes take.
"""

import argparse
import copy
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ..deploy.facts import peak_rss_mib
from ..deploy.rows import append_row
from ..deploy.stats import paired_ratio
from ..kernels import ops, reference
from .loss import SegmentationLoss
from .models.grafts import learning_parameters
from .models.methods import build_model

Call = Callable[[], object]
Row = dict[str, Any]
COLUMNS = (
    "measurement", "method", "size", "image_size", "tokens", "value", "unit", "low", "high", "pairs", "goal", "met",
    "threads",
)  # fmt: skip
REPORT = "Bilateral pulmonary infection, two infected areas, upper left lung and upper right lung"
MOST_GIB, MOST_OF_NAIVE, MOST_OF_ENCODER = 8.0, 0.7, 0.01


def step(size: str) -> Iterator[Row]:
    """Yield the peak of this process' resident memory over one training step of one image, in GiB; run it alone."""
    model = build_model("sam/lga", size, weights="random", checkpointing=True)
    inputs = given(model)
    mask = (torch.rand(1, 1, model.image_size, model.image_size) > 0.9).float()
    optimizer = torch.optim.AdamW(learning_parameters(model).values(), lr=1e-4, weight_decay=1e-3)
    SegmentationLoss(0.5, 0.5)(model(*inputs), mask).backward()
    optimizer.step()
    peak = (peak_rss_mib() or math.nan) / 1024
    row = {"measurement": "training step of one image, peak resident memory", "value": round(peak, 3), "unit": "GiB"}
    yield row | about(model, size) | judged(peak, MOST_GIB)


def modules(size: str, rounds: int, whole_rounds: int) -> Iterator[Row]:
    """Yield what the four modules cost in their exact forms: over the naive forms, and over the frozen encoder."""
    for tokens in ("mean", "all"):
        yield from _modules(size, tokens, rounds, whole_rounds)


def _modules(size: str, tokens: str, rounds: int, whole_rounds: int) -> Iterator[Row]:
    model = build_model("sam/lga", size, weights="random", text_tokens=tokens).requires_grad_(False)
    states, text = encoded(model)
    calls = {
        "exact": lambda: through(model, states, text),
        "naive": lambda: naively(model, states, text),
        "encoder": lambda: encoder(model, states),
    }
    counts = {name: products(calls[name]) for name in ("exact", "naive")} | {"encoder": encoder_products(model, states)}
    for name, other, count, goal in (
        ("modules, exact over naive", "naive", rounds, MOST_OF_NAIVE),
        ("exact modules over the encoder", "encoder", whole_rounds, MOST_OF_ENCODER),
    ):
        of_all = counts["exact"] / counts[other]
        row = {"measurement": f"{name}, by count of products", "value": round(of_all, 5), "unit": "ratio"}
        yield row | {"tokens": tokens} | about(model, size) | judged(of_all, goal)
        times = interleaved({key: calls[key] for key in ("exact", other)}, count)
        ratio = paired_ratio(times["exact"], times[other])
        row = {"measurement": name, "unit": "ratio", "pairs": count, "tokens": tokens}
        row |= {"value": round(ratio.median, 5), "low": round(ratio.low, 5), "high": round(ratio.high, 5)}
        yield row | about(model, size) | judged(ratio.median, goal)


def sizes(size: str, sides: tuple[int, ...], rounds: int) -> Iterator[Row]:
    """Yield the latency from pixels to logits at each image size over that at the largest."""
    models = {side: build_model("sam/lga", size, weights="random", image_size=side) for side in sides}
    calls = {str(side): answering(model) for side, model in models.items()}
    times, largest = interleaved(calls, rounds), str(max(sides))
    for side, model in models.items():
        ratio = paired_ratio(times[str(side)], times[largest])
        row = {"measurement": f"latency over that at {largest} pixels", "value": round(ratio.median, 4)}
        row |= {"unit": "ratio", "low": round(ratio.low, 4), "high": round(ratio.high, 4), "pairs": rounds}
        yield row | about(model, size)
        seconds = statistics.median(times[str(side)])
        yield {"measurement": "latency, one thread", "value": round(seconds, 3), "unit": "s", "pairs": rounds} | about(
            model, size
        )


def given(model: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return an image (1, 3, S, S) and the report's ids and mask (1, L)."""
    ids, mask = (torch.from_numpy(array) for array in model.tokenizer([REPORT]))
    return torch.randn(1, 3, model.image_size, model.image_size), ids, mask


@torch.no_grad()
def encoded(model: Any) -> tuple[Tensor, Any]:
    """Return the states of an image below the first module, and the text's embedding."""
    pixels, ids, mask = given(model)
    return model.image_states(pixels), model.text_embedding(model.text_states(ids, mask))


@torch.no_grad()
def through(model: Any, states: Tensor, text: Any) -> Tensor:
    """Run the modules alone, each on what the one before returns."""
    tokens, mask = model.heard(text)
    for fusion in model.fusions.values():
        states, tokens = fusion(states, tokens, mask)
    return states


def naively(model: Any, states: Tensor, text: Any) -> Tensor:
    """Run the modules alone as their equations are written: every key, query and score made."""
    with naive_forms():
        return through(model, states, text)


@contextmanager
def naive_forms() -> Iterator[None]:
    """Let both attentions be computed from their definitions, whatever their shape."""
    kept = ops.text_pooling, ops.gated_cross_attention
    ops.text_pooling = lambda *given, heads, impl: reference.text_pooling(*given, heads=heads)
    ops.gated_cross_attention = lambda *given, heads, mask, impl: reference.gated_cross_attention(
        *given, heads=heads, mask=mask
    )
    try:
        yield
    finally:
        ops.text_pooling, ops.gated_cross_attention = kept


@torch.no_grad()
def encoder(model: Any, states: Tensor) -> Tensor:
    """Run the frozen encoder from behind the patch embedding to the end of its neck."""
    for layer in model.vision.layers:
        states = layer(states)
    return model.vision.neck(states)


def answering(model: Any) -> Call:
    """Return a call from pixels and a text's embedding to logits."""
    pixels, ids, mask = given(model)
    with torch.no_grad():
        text = model.text_states(ids, mask)
    return torch.no_grad()(lambda: model.answer(model.image_states(pixels), text))


def products(call: Call) -> int:
    """Return the floating-point operations of a call's matrix products, convolutions and attentions."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def encoder_products(model: Any, states: Tensor) -> int:
    """Return those of the encoder, shapes alone: the counter does not know the fused attention of a CPU."""
    vision = copy.deepcopy(model.vision).to("meta")
    shapes = SimpleNamespace(vision=vision)
    return products(lambda: encoder(shapes, states.to("meta")))


def interleaved(calls: Mapping[str, Call], rounds: int, warmup: int = 1) -> dict[str, list[float]]:
    """Return the thread's seconds of each call in every round; in a round each runs once, in an order drawn anew."""
    order, draw = list(calls), random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + rounds):
        draw.shuffle(order)
        for name in order:
            start = time.thread_time()
            calls[name]()
            if turn >= warmup:
                times[name].append(time.thread_time() - start)
    return times


def about(model: Any, size: str) -> Row:
    """Return what was measured on."""
    return {"method": "sam/lga", "size": size, "image_size": model.image_size, "threads": torch.get_num_threads()}


def judged(value: float, most: float) -> Row:
    """Return the goal and whether it was met."""
    return {"goal": most, "met": value <= most}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("step", "modules", "sizes"))
    parser.add_argument("--csv", type=Path, default=Path("lga.csv"), help="file that rows are appended to")
    parser.add_argument("--size", default="base")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--whole-rounds", type=int, default=3, help="rounds that run the whole encoder")
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512, 1024])
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = {
        "step": lambda: step(options.size),
        "modules": lambda: modules(options.size, options.rounds, options.whole_rounds),
        "sizes": lambda: sizes(options.size, tuple(options.sides), options.whole_rounds),
    }[options.what]()
    for row in rows:
        append_row(options.csv, dict.fromkeys(COLUMNS, "") | row)
        sys.stderr.write(f"{row}\n")


if __name__ == "__main__":
    main()
