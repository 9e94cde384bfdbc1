"""What a mask costs besides the engine: from the file to the model's input, and from its logits to the mask.

`python -m vlseg.deploy.trials.overhead CSV BUNDLE IMAGE ...`. The work besides the engine is timed with engines that
answer at once with what the real ones said, for the difference of two long times would drown it. Pairs are of one
round, the order within a round is drawn anew. On a machine that others use too, `--clock processor` counts what the
processor did for this process, with `--threads 1` so that the engine's work is no more than its time.
"""

import random
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from PIL import Image

from ..engine import Arrays, Engine, open_engines
from ..errors import UserError
from ..inputs.files import read_any
from ..manifest import Manifest
from ..pixels import to_input
from ..question import Question
from ..segmenter import Segmenter
from ..stats import paired_ratio
from ..words import Tokenizer
from .figure import Figure, write

WARMUP = 5
CLOCKS = {"wall": perf_counter, "processor": process_time}


class Known(Engine):
    """An engine that answers at once with what another one said."""

    def __init__(self, inner: Engine):
        self._inner, self.name = inner, inner.name
        self._said: Arrays | None = None

    def run(self, inputs: Arrays) -> Arrays:
        """Return the first answer of the real engine, every time."""
        self._said = self._said or self._inner.run(inputs)
        return self._said

    def close(self) -> None:
        """The real engine belongs to somebody else."""


@contextmanager
def open_both(bundle: Path, threads: int | None = None) -> Iterator[tuple[Segmenter, Segmenter]]:
    """Open a bundle whose text part runs, as it is, and with engines that answer at once; one set of engines."""
    manifest = Manifest.load(bundle)
    if manifest.tokenizer is None:
        raise UserError(f"{bundle} has fixed prompts, expected one with a text part: export it without --fixed-prompt")
    tokenizer = Tokenizer.load(bundle / manifest.tokenizer)
    engines = open_engines(bundle, manifest, threads=threads)
    with Segmenter(manifest, engines, tokenizer) as real:
        known: dict[str, Engine] = {part: Known(one) for part, one in engines.items()}
        yield real, Segmenter(manifest, known, tokenizer)


def arms(segmenter: Segmenter, besides: Segmenter, image: Path, prompt: str) -> dict[str, Callable[[], object]]:
    """Return what is timed for one file, the prompt being known already."""
    question, side = Question([prompt]), segmenter.manifest.image_size
    pixels = read_any(image).pixels
    given = segmenter.inputs_of_parts(pixels, prompt)
    parts = [part for part in given if part != "text"]
    answer = Image.fromarray(segmenter.probability(pixels, prompt)).resize((side, side))
    height, width = pixels.shape[:2]

    def decode_and_shrink() -> Image.Image:
        with Image.open(image) as picture:
            return picture.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)

    def decode_shrink_and_enlarge() -> Image.Image:
        decode_and_shrink()
        return answer.resize((width, height), Image.Resampling.BILINEAR)

    size, mean, std = side, segmenter.manifest.mean, segmenter.manifest.std
    return {
        "file to input": lambda: to_input(read_any(image).image, size, mean, std),
        "file to mask": lambda: question.ask(segmenter, read_any(image).image),
        "all but the engine": lambda: question.ask(besides, read_any(image).image),
        "engine": lambda: [segmenter.run_part(part, given[part]) for part in parts],
        "Pillow's decode and resize": decode_and_shrink,
        "Pillow's decode, resize, and resize of the answer": decode_shrink_and_enlarge,
    }


def times(
    calls: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = perf_counter, seed: int = 0
) -> dict[str, list[float]]:
    """Return seconds of each call in each round."""
    order, draw = list(calls), random.Random(seed)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(WARMUP + rounds):
        draw.shuffle(order)
        for name in order:
            start = clock()
            calls[name]()
            if turn >= WARMUP:
                taken[name].append(clock() - start)
    return taken


def measure(
    segmenter: Segmenter,
    besides: Segmenter,
    images: Sequence[Path],
    prompt: str,
    rounds: int = 40,
    clock: str = "wall",
) -> list[Figure]:
    """Return the ratios over all images, and the median milliseconds of each arm."""
    taken: dict[str, list[float]] = {}
    for image in images:
        for name, series in times(arms(segmenter, besides, image, prompt), rounds, CLOCKS[clock]).items():
            taken.setdefault(name, []).extend(series)
    sizes = {read_any(image).shape for image in images}
    about: dict[str, Any] = {
        "trial": f"file to mask, {clock} time",
        "bundle": f"{segmenter.manifest.name} {segmenter.manifest.precision}",
        "engine": segmenter.engine,
        "data": f"{len(images)} images of {min(sizes)} to {max(sizes)} pixels",
    }
    bare, with_answer = (name for name in taken if name.startswith("Pillow"))
    ratios = [
        ("all but the engine", "engine", "at most 0.08"),
        ("file to input", bare, "at most 1.15"),
        ("all but the engine", bare, ""),
        ("all but the engine", with_answer, "at most 1.15"),
        ("file to mask", "engine", ""),
    ]
    figures = []
    for a, b, goal in ratios:
        ratio = paired_ratio(taken[a], taken[b])
        interval: dict[str, Any] = {"low": ratio.low, "high": ratio.high, "unit": "ratio", "goal": goal}
        figures.append(Figure(arm=a, against=b, value=ratio.median, n=ratio.pairs, **interval, **about))
    for name, series in taken.items():
        value = float(np.median(series)) * 1000
        figures.append(Figure(arm=name, against="", value=value, n=len(series), unit="ms", **about))
    return figures


def main() -> None:
    """Measure and append the rows."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("csv", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--prompt", default="one small round bright spot")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    asked = parser.parse_args()
    with open_both(asked.bundle, asked.threads) as both:
        write(asked.csv, measure(*both, asked.images, asked.prompt, asked.rounds, asked.clock))


if __name__ == "__main__":
    main()
