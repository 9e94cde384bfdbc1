"""Two trainings compared image by image: the difference of their mean Dice, with a paired bootstrap interval.

`python -m vlseg.train.pairs RUN_A RUN_B --data DIR --prompt p6 [--prompt-b shuffled:p6]`; each at its own threshold.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..deploy.annotations import read_samples
from ..deploy.evaluate import evaluate
from ..deploy.rows import append_row
from .engine import open_run
from .evidence_cell import ASKED, ask

RESAMPLES = 10_000


def bootstrap(a: Sequence[float], b: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Return the mean of a - b over pairs, and its percentile bootstrap 95 % interval (Efron 1979)."""
    if len(a) != len(b) or not len(a):
        raise ValueError(f"series have {len(a)} and {len(b)} values, expected as many pairs, at least one")
    differences = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    draws = np.random.default_rng(seed).integers(0, len(differences), (RESAMPLES, len(differences)))
    low, high = np.percentile(differences[draws].mean(axis=1), [2.5, 97.5])
    return float(differences.mean()), float(low), float(high)


def scores(run: Path, data: Path, prompt: str, split: str = "test") -> dict[str, float]:
    """Return the Dice of each image of a split by name; `prompt` is a key, `shuffled:KEY` or `=WORDS`."""
    with open_run(run) as segmenter:
        samples = ask(read_samples(data, split), prompt)
        report = evaluate(segmenter, samples, ASKED, data=data.name, split=split, hd95=False)
    return {image["name"]: image["dice"] for image in report["images"]}


def compare(a: Path, b: Path, data: Path, prompt: str, prompt_b: str | None = None) -> dict[str, Any]:
    """Return the comparison of two runs on the test images of `data` as a row; `prompt_b` None is `prompt`."""
    mine, its = scores(a, data, prompt), scores(b, data, prompt_b or prompt)
    names = sorted(mine.keys() & its.keys())
    median, low, high = bootstrap([mine[name] for name in names], [its[name] for name in names])
    found = {"difference": round(median, 5), "low": round(low, 5), "high": round(high, 5), "n": len(names)}
    return {"data": data.name, "a": _arm(a), "b": _arm(b), "prompt_a": prompt, "prompt_b": prompt_b or prompt} | found


def _arm(run: Path) -> str:
    info = json.loads((run / "run.json").read_text())
    options = " ".join(f"{key}={value}" for key, value in info["options"].items())
    return " ".join(word for word in (info["method"], options, f"seed={info['seed']}") if word)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("a", type=Path)
    parser.add_argument("b", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--prompt", default="p1")
    parser.add_argument("--prompt-b", help="what the second is asked; default: the same")
    parser.add_argument("--csv", type=Path, help="file that the row is appended to")
    options = parser.parse_args()
    row = compare(options.a, options.b, options.data, options.prompt, options.prompt_b)
    if options.csv:
        append_row(options.csv, row)
    sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
