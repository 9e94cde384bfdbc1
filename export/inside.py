"""Where the engine loses to OpenVINO, or gains: the image part's time by kind of node, side by side.

`python -m vlseg.export.inside docs/measured/inside.csv --threads 2`, on the bundle that `tax.py` measures. The nodes'
times are told by each engine's own counters, in turns, the order drawn anew; what OpenVINO fused counts under one of
the names.
"""

import argparse
import random
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

from ..deploy.engine import available_engines
from ..deploy.engines import openvino, ort
from ..deploy.kinds import KINDS, kind_of
from ..deploy.rows import append_row
from ..deploy.stats import paired_ratio
from .tax import Bench, Row, Setting, print_step

ENGINES = {"onnxruntime": ort.node_times, "openvino": openvino.node_times}
REPEATS = 5  # runs of one turn, of which each node's median counts


def by_kind(file: Path, pixels: np.ndarray, threads: int, turns: int) -> dict[str, dict[str, list[float]]]:
    """Return for each engine and kind of node its milliseconds in each turn; `whole` is their sum."""
    draw = random.Random(0)
    taken: dict[str, defaultdict[str, list[float]]] = {name: defaultdict(list) for name in ENGINES}
    for _ in range(turns):
        for name in draw.sample(list(ENGINES), len(ENGINES)):
            sums: dict[str, float] = {kind: 0.0 for kind in (*KINDS, "whole")}
            for node, ms in ENGINES[name](file, threads, {"pixel_values": pixels}, REPEATS):
                sums[kind_of(node)] += ms
                sums["whole"] += ms
            for kind, ms in sums.items():
                taken[name][kind].append(ms)
    return {name: dict(kinds) for name, kinds in taken.items()}


def compared(setting: Setting, taken: dict[str, dict[str, list[float]]]) -> list[Row]:
    """Return a row for each kind: both engines' median milliseconds, and the ratio of ours with its interval."""
    about = {"method": setting.method, "size": setting.size, "part": "image", "threads_of_engine": setting.threads}
    rows = []
    for kind, ours in taken["onnxruntime"].items():
        theirs = taken["openvino"][kind]
        if min(ours) > 0 and min(theirs) > 0:
            ratio = paired_ratio(ours, theirs)
            figures = {"ratio": ratio.median, "low": ratio.low, "high": ratio.high}
        else:
            figures = {"ratio": "", "low": "", "high": ""}
        ms = {"onnxruntime_ms": float(np.median(ours)), "openvino_ms": float(np.median(theirs))}
        rows.append({**about, "kind": kind, **ms, **figures, "turns": len(ours)})
    return rows


def main() -> None:
    """Measure and append the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--size", default="base")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=11)
    asked = parser.parse_args()
    if "openvino" not in available_engines():
        raise SystemExit(openvino.INSTALL)
    setting = Setting(size=asked.size, threads=asked.threads)
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(setting, Path(scratch))
        file = bench.folders["adapted"] / "image.onnx"
        for row in compared(setting, by_kind(file, bench.pixels, asked.threads, asked.turns)):
            append_row(asked.csv, row)
            print_step(f"{row['kind']}: {row['onnxruntime_ms']:.2f} / {row['openvino_ms']:.2f} ms")


if __name__ == "__main__":
    main()
