"""What huge pages bring a CPU engine: processes that keep their memory in them, and processes that do not, in turns.

`python -m vlseg.deploy.trials.pages CSV BUNDLE --threads 2`, on Linux with glibc, whose `glibc.malloc.hugetlb=1` asks
the kernel for them. Each pair of processes is new, the order in it drawn anew.
"""

import json
import os
import random
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..stats import paired_ratio
from .figure import Figure, write

TUNABLE = "glibc.malloc.hugetlb=1"
CHILD = """
import json, re, statistics, sys
from pathlib import Path
from time import perf_counter
from vlseg.deploy.drawn import draw_cases
from vlseg.deploy.segmenter import Segmenter
begun = perf_counter()
with Segmenter.open(sys.argv[1], "onnxruntime", int(sys.argv[2])) as segmenter:
    opened = perf_counter() - begun
    inputs = segmenter.inputs_of_parts(draw_cases(1)[0].image, "one small round bright spot")
    taken = {part: [] for part in inputs}
    for _ in range(int(sys.argv[3])):
        for part, given in inputs.items():
            start = perf_counter()
            segmenter.run_part(part, given)
            taken[part].append(perf_counter() - start)
    manifest = segmenter.manifest
    huge = re.search(r"AnonHugePages:\\s+(\\d+)", Path("/proc/self/smaps_rollup").read_text())
    rss = re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())
print(json.dumps({
    **{part: statistics.median(times) for part, times in taken.items()},
    "open": opened, "resident memory": int(rss[1]) / 1024, "huge": int(huge[1]) // 1024,
    "bundle": f"{manifest.name} {manifest.size} {manifest.precision}",
}))
"""


def child(bundle: Path, threads: int, rounds: int, huge: bool) -> dict[str, Any]:
    """Return what a fresh process tells: median seconds of each part, of opening, and MiB."""
    environment = {**os.environ, **({"GLIBC_TUNABLES": TUNABLE} if huge else {})}
    command = [sys.executable, "-c", CHILD, str(bundle), str(threads), str(rounds)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def compare(with_them: Sequence[dict[str, Any]], without: Sequence[dict[str, Any]]) -> list[Figure]:
    """Return the ratio of each figure with huge pages to the one without, and how much memory lay in them."""
    told = [one["huge"] for one in with_them]
    about: dict[str, Any] = {"trial": "huge pages", "bundle": without[0]["bundle"], "engine": "onnxruntime"}
    figures = []
    for name in (key for key in without[0] if key not in ("huge", "bundle")):
        ratio = paired_ratio([one[name] for one in with_them], [one[name] for one in without])
        figures.append(
            Figure(
                arm=TUNABLE,
                against="plain",
                data=f"{name}, {min(told)} MiB in huge pages",
                n=ratio.pairs,
                value=ratio.median,
                low=ratio.low,
                high=ratio.high,
                unit="ratio",
                **about,
            )
        )
    return figures


def main(words: Sequence[str] | None = None) -> None:
    """Measure and append the rows."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("csv", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args(words)
    draw, told = random.Random(0), {True: [], False: []}
    for _ in range(asked.pairs):
        for huge in draw.sample([True, False], 2):
            told[huge].append(child(asked.bundle, asked.threads, asked.rounds, huge))
    write(asked.csv, compare(told[True], told[False]))


if __name__ == "__main__":
    main()
