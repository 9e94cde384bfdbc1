"""What adapters cost, and what the engine gains, as ratios of interleaved pairs in rows of a CSV.

Adapter tax = adapted / frozen latency: the same backbone with the same dead parts removed, the same constant text, the
same engine. Weights are random: they do not change what is computed. Run as a file for all rows:
`python -m vlseg.export.tax docs/measured/export.csv`.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..deploy.engine import open_engines
from ..deploy.rows import append_row
from ..deploy.segmenter import Segmenter
from ..deploy.stats import Ratio, paired_ratio
from ..train.models.clipseg import Clipseg
from ..train.models.methods import build_model
from .bundle import Options, pack
from .choose import Folds
from .drawn import draw_cases
from .stages import DecoderStage, ImageStage, TextStage
from .timing import Clock, interleave

ROUNDS = 40
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.thread_time}
"""`cpu` leaves out what other processes take, and is right where one thread does all the work."""
Arm = Callable[[], object]
Row = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What is measured and how.

    Attributes:
        method: the adapted model; the frozen one is `clipseg/frozen`.
        size: of both.
        folds: how down-projections are folded.
        rounds: pairs.
        threads: of the engine and of torch.
        clock: a name of `CLOCKS`.
    """

    method: str = "clipseg/dense-vl"
    size: str = "base"
    folds: Folds = "measure"
    rounds: int = ROUNDS
    threads: int = 1
    clock: str = "wall"


class Bench:
    """Adapted and frozen bundles of one size, opened, with one picture and one constant text."""

    def __init__(self, setting: Setting, scratch: Path) -> None:
        """Export both models into `scratch`, without the proof, which does not change how fast they are."""
        self.setting = setting
        torch.set_num_threads(setting.threads)
        self.adapted = build_model(setting.method, setting.size, weights="random")
        self.folders = {name: scratch / name for name in ("adapted", "frozen")}
        self.folds = self._pack("adapted", self.adapted, setting.method)
        self._pack("frozen", build_model("clipseg/frozen", setting.size, weights="random"), "clipseg/frozen")
        side = self.adapted.image_size
        self.pixels = np.random.default_rng(0).standard_normal((1, 3, side, side)).astype(np.float32)
        ids, mask = self.adapted.tokenizer(["one small round spot on the left"])
        with torch.inference_mode():
            self.text = TextStage(self.adapted)(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()

    def engine(self, name: str) -> Arm:
        """Return a call from pixels to logits with constant text, in ONNX Runtime."""
        folder = self.folders[name]
        with Segmenter.open(folder) as opened:
            manifest = opened.manifest
        engines = open_engines(folder, manifest, "onnxruntime", self.setting.threads)

        def run() -> object:
            embedding = engines["image"].run({"pixel_values": self.pixels})["image_embedding"]
            return engines["decoder"].run({"image_embedding": embedding, "text_embedding": self.text})["logits"]

        return run

    def torch(self, compiled: bool) -> Arm:
        """Return the same call in PyTorch, on the trimmed model as it was trained."""
        whole: Callable[..., torch.Tensor] = _FromPixels(self.adapted).eval()
        whole = torch.compile(whole) if compiled else whole
        pixels, text = torch.from_numpy(self.pixels), torch.from_numpy(self.text)

        def run() -> object:
            with torch.inference_mode():
                return whole(pixels, text)

        return run

    def _pack(self, name: str, model: Clipseg, method: str) -> list[Any]:
        self.folders[name].mkdir()
        info = {"method": method, "size": self.setting.size, "weights": "random"}
        return pack(model, info, self.folders[name], Options(folds=self.setting.folds), _silent).folds


class _FromPixels(torch.nn.Module):
    def __init__(self, model: Clipseg) -> None:
        super().__init__()
        self.image, self.decoder = ImageStage(model), DecoderStage(model)

    def forward(self, pixels: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.image(pixels), text)


def adapter_tax(bench: Bench) -> list[Row]:
    """Return the tax: adapted over frozen, both in ONNX Runtime."""
    arms = {"adapted": bench.engine("adapted"), "frozen": bench.engine("frozen")}
    return [_row(bench.setting, "adapter tax", "adapted", "frozen", _times(bench, arms), goal=1.05)]


def against_torch(bench: Bench, compiled: bool = False) -> list[Row]:
    """Return the adapted engine's time over PyTorch's, eager or compiled, constant text on both sides."""
    other = "torch.compile" if compiled else "torch eager"
    arms = {"adapted": bench.engine("adapted"), other: bench.torch(compiled)}
    goal = 0.92 if compiled else 0.80
    return [_row(bench.setting, f"engine against {other}", "adapted", other, _times(bench, arms), goal)]


def second_prompt(bench: Bench) -> list[Row]:
    """Return the second prompt's time over the first's on one picture, for a new and for a known sentence.

    From pixels to mask in `Segmenter`: preprocessing, the parts that the caches do not answer, postprocessing.
    """
    segmenter = Segmenter.open(bench.folders["adapted"], "onnxruntime", bench.setting.threads)
    image, clock = draw_cases(1)[0].image, CLOCKS[bench.setting.clock]
    times: dict[str, list[float]] = {"first": [], "new": [], "known": []}
    for turn in range(-2, bench.setting.rounds):
        segmenter.forget()
        for name, prompt in (
            ("first", f"one round spot {turn}"),
            ("new", f"a dark {turn}"),
            ("known", f"a dark {turn}"),
        ):
            start = clock()
            segmenter.segment(image, prompt)
            if turn >= 0:
                times[name].append(clock() - start)
    goals = {"new": 0.06, "known": 0.03}
    rows = [
        _row(bench.setting, f"second prompt, {name} sentence", name, "first", times, goal)
        for name, goal in goals.items()
    ]
    segmenter.close()
    return rows


def measure_all(csv: Path, settings: Sequence[Setting] = (Setting(), Setting(clock="cpu"))) -> None:
    """Append every row of this file to `csv`; the settings share one export."""
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(settings[0], Path(scratch))
        for setting in settings:
            bench.setting = setting
            for rows in (adapter_tax(bench), against_torch(bench), against_torch(bench, True), second_prompt(bench)):
                for row in rows:
                    append_row(csv, row)
                    sys.stderr.write(
                        f"{row['measurement']} ({row['clock']}): {row['ratio']} [{row['low']}, {row['high']}]\n"
                    )


def _times(bench: Bench, arms: dict[str, Arm]) -> dict[str, list[float]]:
    return interleave(arms, bench.setting.rounds, clock=CLOCKS[bench.setting.clock])


def _row(setting: Setting, measurement: str, this: str, other: str, times: dict[str, list[float]], goal: float) -> Row:
    ratio: Ratio = paired_ratio(times[this], times[other])
    return {
        "measurement": measurement,
        "method": setting.method,
        "size": setting.size,
        "engine": "onnxruntime",
        "precision": "fp32",
        "folds": setting.folds,
        "clock": setting.clock,
        "ratio": round(ratio.median, 4),
        "low": round(ratio.low, 4),
        "high": round(ratio.high, 4),
        "pairs": ratio.pairs,
        "goal": goal,
        "met": ratio.median <= goal,
        "threads": setting.threads,
    }


def _silent(step: str) -> None:
    """Tell nobody."""


if __name__ == "__main__":
    measure_all(Path(sys.argv[1]))
