"""What adapters cost, and what the engine gains over torch and OpenVINO: ratios of interleaved pairs in rows of a CSV.

Adapter tax = adapted / frozen latency: the same backbone with the same dead parts removed, the same constant text, the
same engine. Weights are random but tame (see `tame`). Run as a module for all rows:
`python -m vlseg.export.tax docs/measured/export.csv --threads 2`.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..deploy.drawn import draw_cases
from ..deploy.engine import available_engines, open_engines
from ..deploy.manifest import Manifest
from ..deploy.rows import append_row
from ..deploy.segmenter import Segmenter
from ..deploy.stats import paired_ratio
from ..train.models.clipseg import Clipseg
from ..train.models.grafts import grafts
from ..train.models.methods import build_model
from ..train.models.parts import parts_of
from .bundle import Options, pack
from .choose import Folds
from .timing import CLOCKS, Times, clocked, interleave

Arm = Callable[[], object]
Row = dict[str, Any]
ENGINE = "onnxruntime"
SMALL = 0.05
SENTENCE = "one small round spot on the left"


@dataclass(frozen=True)
class Setting:
    """What is measured and how.

    Attributes:
        method: the adapted model; the frozen one is `clipseg/frozen`.
        size: of both.
        folds: how down-projections are folded.
        rounds: pairs.
        threads: of the engine and of torch.
    """

    method: str = "clipseg/dense-vl"
    size: str = "base"
    folds: Folds = "measure"
    rounds: int = 40
    threads: int = 1


class Bench:
    """Adapted and frozen bundles of one size, and one picture and one constant text to run them on."""

    def __init__(self, setting: Setting, scratch: Path) -> None:
        """Export both models into `scratch`, without the proof, which does not change how fast they are."""
        self.setting = setting
        torch.set_num_threads(setting.threads)
        self.adapted = build_model(setting.method, setting.size, weights="random")
        frozen = build_model("clipseg/frozen", setting.size, weights="random")
        side = self.adapted.image_size
        self.pixels = np.random.default_rng(0).standard_normal((1, 3, side, side)).astype(np.float32)
        for model in (self.adapted, frozen):
            tame(model, torch.from_numpy(self.pixels))
        self.folders = {name: scratch / name for name in ("adapted", "frozen")}
        self._pack("adapted", self.adapted, setting.method)
        # its text part is not timed, so it needs none
        self._pack("frozen", frozen, "clipseg/frozen", fixed_prompts=(SENTENCE,))
        ids, mask = self.adapted.tokenizer([SENTENCE])
        with torch.inference_mode():
            (text,) = parts_of(self.adapted)["text"](torch.from_numpy(ids), torch.from_numpy(mask))
        self.text = text.numpy()

    def engine(self, name: str, kind: str = ENGINE) -> Arm:
        """Return a call from pixels to logits with constant text, in ONNX Runtime or another engine."""
        folder = self.folders[name]
        engines = open_engines(folder, Manifest.load(folder), kind, self.setting.threads)

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

    def _pack(self, name: str, model: Clipseg, method: str, fixed_prompts: tuple[str, ...] = ()) -> None:
        self.folders[name].mkdir()
        info = {"method": method, "size": self.setting.size, "weights": "random"}
        options = Options(fixed_prompts=fixed_prompts, folds=self.setting.folds)
        pack(model, info, self.folders[name], options, print_step)


@torch.no_grad()
def tame(model: Clipseg, pixels: torch.Tensor) -> None:
    """Scale random weights to what trained ones are like: small adapters, a decoder that reads unit variance.

    As drawn, they give attention scores so far apart that its weights are denormal numbers, which processors handle
    many times slower than others: the decoder then took three times as long.
    """
    for _, one in grafts(model):
        for parameter in one.graft.parameters():
            parameter.mul_(SMALL)
    spread = parts_of(model)["image"](pixels)[0].std()
    for reduce in model.library.decoder.reduces:
        reduce.weight.div_(spread)
        reduce.bias.div_(spread)


class _FromPixels(torch.nn.Module):
    def __init__(self, model: Clipseg) -> None:
        super().__init__()
        parts = parts_of(model)
        self.image, self.decoder = parts["image"], parts["decoder"]

    def forward(self, pixels: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return self.decoder(*self.image(pixels), text)[0]


def first_prompt(bench: Bench) -> list[Row]:
    """Return the adapter tax, and the adapted engine's time over that of PyTorch, eager and compiled, and of OpenVINO.

    From pixels to logits, constant text on every side; all arms run in every round.
    """
    arms = {"adapted": bench.engine("adapted"), "frozen": bench.engine("frozen")}
    arms |= {"torch eager": bench.torch(compiled=False), "torch.compile": bench.torch(compiled=True)}
    goals = {"frozen": 1.05, "torch eager": 0.80, "torch.compile": 0.92}
    if "openvino" in available_engines():
        arms["OpenVINO"], goals["OpenVINO"] = bench.engine("adapted", "openvino"), 1.10
    times = interleave(arms, bench.setting.rounds)
    names = {"frozen": "adapter tax"}
    return [
        row
        for other, goal in goals.items()
        for row in _rows(bench.setting, names.get(other, f"engine against {other}"), "adapted", other, times, goal)
    ]


def second_prompt(bench: Bench) -> list[Row]:
    """Return the second prompt's time over the first's on one picture, for a new and for a known sentence.

    From pixels to mask in `Segmenter`: preprocessing, the parts that the caches do not answer, postprocessing.
    """
    image = draw_cases(1)[0].image
    times: dict[str, Times] = {clock: {"first": [], "new": [], "known": []} for clock in CLOCKS}
    with Segmenter.open(bench.folders["adapted"], ENGINE, bench.setting.threads) as segmenter:
        for turn in range(-2, bench.setting.rounds):
            segmenter.forget()
            prompts = {"first": f"one round spot {turn}", "new": f"a dark {turn}", "known": f"a dark {turn}"}
            for name, prompt in prompts.items():
                for clock, seconds in clocked(lambda prompt=prompt: segmenter.segment(image, prompt)).items():
                    times[clock][name] += [seconds] if turn >= 0 else []
    goals = {"new": 0.06, "known": 0.03}
    return [
        row
        for name, goal in goals.items()
        for row in _rows(bench.setting, f"second prompt, {name} sentence", name, "first", times, goal)
    ]


def measure_all(csv: Path, setting: Setting | None = None) -> None:
    """Append every row of this file to `csv`."""
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(setting or Setting(), Path(scratch))
        for measurement in (second_prompt, first_prompt):
            for row in measurement(bench):
                append_row(csv, row)
                print_step(f"{row['measurement']} ({row['clock']}): {row['ratio']} [{row['low']}, {row['high']}]")


def print_step(step: str) -> None:
    """Say on stderr what is going on."""
    sys.stderr.write(f"{step}\n")


def _rows(setting: Setting, measurement: str, this: str, other: str, times: dict[str, Times], goal: float) -> list[Row]:
    """Return one row for each clock: the ratio of this arm to the other, with its interval, beside the goal."""
    rows = []
    for clock, by_arm in times.items():
        if clock == "cpu" and setting.threads > 1:
            # it counts the calling thread alone
            continue
        ratio = paired_ratio(by_arm[this], by_arm[other])
        figures = {name: round(value, 4) for name, value in ratio._asdict().items() if name != "pairs"}
        subject = {"method": setting.method, "size": setting.size, "engine": ENGINE, "folds": setting.folds}
        rows.append(
            {"measurement": measurement, **subject, "clock": clock, "ratio": figures.pop("median"), **figures}
            | {"pairs": ratio.pairs, "goal": goal, "met": ratio.median <= goal, "threads": setting.threads}
        )
    return rows


def main(words: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("csv", type=Path, help="file to append to")
    parser.add_argument("--method", default=Setting.method, help="the adapted model")
    parser.add_argument("--threads", type=int, default=1, help="of every arm")
    parser.add_argument("--rounds", type=int, default=Setting.rounds, help="pairs")
    parser.add_argument("--folds", default=Setting.folds, help="measure, all or none")
    options = vars(parser.parse_args(words))
    measure_all(options.pop("csv"), Setting(**options))


if __name__ == "__main__":
    main()
