"""From a fresh process to the first mask: how long, and where the time goes.

`python -m vlseg.deploy.trials.start CSV BUNDLE IMAGE --processes 7`: every process is new; the files are in the
system's cache, since the goal leaves their reading out.
"""

import json
import os
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from .figure import Figure, write

CHILD = """
import json, sys
from time import perf_counter
begun = perf_counter()
import vlseg.cli.door
from vlseg.deploy.question import Question
from vlseg.deploy.inputs.files import read_any
from vlseg.deploy.segmenter import Segmenter
loaded = perf_counter()
segmenter = Segmenter.open(sys.argv[1], threads=int(sys.argv[4]) or None)
opened = perf_counter()
labels = Question([sys.argv[3]]).ask(segmenter, read_any(sys.argv[2]).image)
done = perf_counter()
manifest = segmenter.manifest
print(json.dumps({
    "import": loaded - begun, "open": opened - loaded, "first mask": done - opened,
    "bundle": f"{manifest.name} {manifest.precision}", "engine": segmenter.engine, "shape": list(labels.shape),
}))
"""
PARTS = ("import", "open", "first mask")


def start(bundle: Path, image: Path, prompt: str, threads: int | None = None) -> dict[str, Any]:
    """Return seconds of `import`, `open` and `first mask` in a fresh process, and `whole`, the interpreter's too.

    `processor time` is what the process used of all cores; other work on the machine does not lengthen it much.
    """
    begun, used = perf_counter(), _processor_time()
    command = [sys.executable, "-c", CHILD, str(bundle), str(image), prompt, str(threads or 0)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    whole = {"whole": perf_counter() - begun, "processor time": _processor_time() - used}
    return {**json.loads(done.stdout), **whole}


def _processor_time() -> float:
    """Return seconds that processes started here have used so far."""
    times = os.times()
    return times.children_user + times.children_system


def main() -> None:
    """Measure and append the rows."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("csv", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--prompt", default="one small round bright spot")
    parser.add_argument("--processes", type=int, default=7)
    parser.add_argument("--threads", type=int)
    asked = parser.parse_args()
    start(asked.bundle, asked.image, asked.prompt, asked.threads)  # fills the system's cache
    runs = [start(asked.bundle, asked.image, asked.prompt, asked.threads) for _ in range(asked.processes)]
    about: dict[str, Any] = {
        "trial": "load to first mask",
        "bundle": runs[0]["bundle"],
        "engine": runs[0]["engine"],
        "against": "",
    }
    shape, load = runs[0]["shape"], os.getloadavg()[0]
    about |= {
        "data": f"one image of {shape[0]} x {shape[1]} pixels, machine load {load:.0f}",
        "n": len(runs),
        "unit": "ms",
    }
    for part in (*PARTS, "whole", "processor time"):
        times = np.asarray([run[part] for run in runs]) * 1000
        goal = "at most 1500" if part == "whole" else ""
        low, high = float(times.min()), float(times.max())
        write(asked.csv, [Figure(arm=part, value=float(np.median(times)), low=low, high=high, goal=goal, **about)])


if __name__ == "__main__":
    main()
