"""How long an engine's threads spin before they sleep: alone, beside a busy process, and with several callers.

`python -m vlseg.deploy.trials.waiting CSV BUNDLE --threads 2`: ONNX Runtime on the CPU, parts of a bundle that has a
text part. All ways run in every round, the order drawn anew; ratios are to sleeping at once.
"""

import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..drawn import draw_cases
from ..engine import Arrays
from ..engines.ort import WAITING, onnxruntime, options
from ..segmenter import Segmenter
from ..stats import paired_ratio
from .figure import Figure, write
from .overhead import times

CALLERS = 4
SLEEP = "sleep at once"
SPIN, STOP = "session.intra_op.spin_duration_us", "session.force_spinning_stop"
WAYS: dict[str, dict[str, str]] = {
    SLEEP: {"session.intra_op.allow_spinning": "0"},
    f"spin {WAITING[SPIN]} us": WAITING,
    "spin 50 us": {STOP: "1", SPIN: "50"},
    "spin until the call ends": {STOP: "1"},
}
Call = Callable[[], object]


def calls_of(bundle: Path, inputs: dict[str, Arrays], threads: int) -> dict[str, dict[str, Call]]:
    """Return a call of each part in each way, by part and way."""
    library = onnxruntime()

    def call(part: str, way: str) -> Call:
        made = options(library, threads, WAYS[way])
        session = library.InferenceSession(bundle / f"{part}.onnx", made, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, inputs[part])

    return {part: {way: call(part, way) for way in WAYS} for part in inputs}


def at_once(call: Call) -> Call:
    """Return a call that several callers make at the same time, each as often."""

    def together() -> None:
        with ThreadPoolExecutor(CALLERS) as pool:
            for done in [pool.submit(call) for _ in range(2 * CALLERS)]:
                done.result()

    return together


@contextmanager
def neighbour() -> Iterator[None]:
    """Keep one core busy meanwhile."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            yield
        finally:
            busy.kill()


def compare(
    about: dict[str, Any], calls: dict[str, dict[str, Call]], rounds: int, circumstance: str
) -> Iterator[Figure]:
    """Yield the ratio of each way to sleeping at once, part by part."""
    for part, ways in calls.items():
        taken = times(ways, rounds)
        for way in WAYS:
            if way != SLEEP:
                ratio = paired_ratio(taken[way], taken[SLEEP])
                figures: dict[str, Any] = {"value": ratio.median, "low": ratio.low, "high": ratio.high}
                yield Figure(
                    arm=way,
                    against=SLEEP,
                    data=f"{part}, {circumstance}",
                    n=ratio.pairs,
                    unit="ratio",
                    **figures,
                    **about,
                )


def main(words: Sequence[str] | None = None) -> None:
    """Measure and append the rows."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("csv", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args(words)
    with Segmenter.open(asked.bundle, "onnxruntime", asked.threads) as segmenter:
        inputs = segmenter.inputs_of_parts(draw_cases(1)[0].image, "one small round bright spot")
        name = f"{segmenter.manifest.name} {segmenter.manifest.size} {segmenter.manifest.precision}"
    about = {"trial": "threads between operators", "bundle": name, "engine": "onnxruntime"}
    calls = calls_of(asked.bundle, inputs, asked.threads)
    write(asked.csv, list(compare(about, calls, asked.rounds, "alone")))
    with neighbour():
        write(asked.csv, list(compare(about, calls, asked.rounds, "beside a busy process")))
    crowd = {part: {way: at_once(call) for way, call in ways.items()} for part, ways in calls.items()}
    write(asked.csv, list(compare(about, crowd, asked.rounds, f"{CALLERS} callers at once")))


if __name__ == "__main__":
    main()
