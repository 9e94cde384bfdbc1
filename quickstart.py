"""The whole road on one machine, offline, in minutes: draw a clinic, adapt to it, fold, export, prove, time, report."""

import csv
import importlib.metadata
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .deploy.annotations import Sample, choose_prompt, read_pair, read_split
from .deploy.files import atomic_folder, atomic_write, write_json

if TYPE_CHECKING:
    from .deploy.segmenter import Segmenter
    from .export.report import Shown

MARKER = ".vlseg-quickstart"
METHOD, SIZE, PROMPT = "clipseg/dense-vl", "tiny", "random"
IMAGES = {"train": 96, "val": 16, "test": 40}
SIDE = 256
RECIPE = {
    "lr": 3e-3,
    "batch_size": 4,
    "max_epochs": 7,
    "min_epochs": 7,
    "plateau_patience": 0,
    "plateau_factor": 0.5,
    "max_minutes": 4.0,
}
ROUNDS = 40
SHOWN = 4
BEFORE, AFTER, TRUTH = (255, 140, 40), (190, 255, 60), (255, 255, 255)
VEIL = 0.3
PACKAGES = ("torch", "transformers", "lightning", "onnx", "onnxruntime", "numpy", "vlseg")


@dataclass
class Steps:
    """Says what begins, and keeps how long each step took.

    Attributes:
        total: how many steps there will be.
        seconds: time of each step that has ended, by name.
    """

    say: Callable[[str], None]
    total: int
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, what: str) -> Iterator[None]:
        """Announce a step and time the block."""
        self.say(f"[{len(self.seconds) + 1}/{self.total}] {what}")
        start = perf_counter()
        yield
        self.seconds[name] = round(perf_counter() - start, 2)


@dataclass(frozen=True)
class Level:
    """A model at its threshold on the test images: mean Dice, and the Dice of each image by name."""

    threshold: float
    dice: float
    images: dict[str, float]


def quickstart(out: Path, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Walk the whole road and return what `report.json` holds; every figure in it is measured on the way.

    `out` receives data/, run/, bundle/, report.html and report.json, all or nothing; an earlier quickstart there is
    replaced, any other folder is refused.

    Raises:
        UserError: `out` is not ours, or a step refuses its input.
        KeyboardInterrupt: Ctrl-C, with a sentence; nothing is left behind.
    """
    out = Path(out)
    try:
        with atomic_folder(out, MARKER, overwrite=True) as folder:
            report = _write(folder, out, say)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted, nothing was written to {out}: run it again") from None
    say(f"done in {report['seconds_total']:.0f} s: open {out / 'report.html'}, or try `vlseg demo {out / 'bundle'}`")
    return report


def _write(folder: Path, out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Write everything into `folder`, which becomes `out` at the end and is called so in all that is said."""
    from .export.report import render

    steps = Steps(lambda text: say(text.replace(str(folder), str(out))), total=7)
    report, pictures = _walk(folder, steps)
    report |= {"seconds": steps.seconds, "seconds_total": round(sum(steps.seconds.values()), 1)}
    write_json(folder / "report.json", report)
    atomic_write(folder / "report.html", render(report, pictures, out))
    atomic_write(folder / MARKER, "Made by `vlseg quickstart`, which may replace this folder.\n")
    return report


def _walk(folder: Path, steps: Steps) -> tuple[dict[str, Any], "list[Shown]"]:
    from .deploy.segmenter import Segmenter
    from .export.bundle import export
    from .train.clinic import write_dataset
    from .train.engine import open_run
    from .train.fit import fit
    from .train.recipe import load_recipe

    data, run, bundle = folder / "data", folder / "run", folder / "bundle"
    with steps.step("draw", f"drawing a clinic of {sum(IMAGES.values())} pictures in a look the base has never seen"):
        write_dataset(data, *IMAGES.values(), size=SIDE, style="clinic", seed=7)
    samples = {split: read_split(data, split) for split in ("val", "test")}
    with steps.step("before", "asking the frozen base"):
        frozen = _frozen()
        before = _level(frozen, samples)
    steps.say(f"      Dice {before.dice:.3f}")
    with steps.step("train", f"training {METHOD} ({SIZE}), about two minutes"):
        info = fit(load_recipe(method=METHOD, size=SIZE, prompt=PROMPT, **RECIPE), data, run, say=_indented(steps.say))
    with steps.step("export", "folding, exporting to ONNX and proving parity"):
        exported = export(run, bundle, progress=_indented(steps.say))
    with Segmenter.open(bundle, threads=_threads()) as engine, open_run(run) as torch:
        with steps.step("after", "asking the bundle"):
            after = _measure(engine, samples["test"], info["threshold"])
        steps.say(f"      Dice {after.dice:.3f}")
        with steps.step("bench", f"timing torch against {engine.engine}, interleaved"):
            timed = _bench(torch, engine, samples["test"][0])
        with steps.step("report", "drawing the report"):
            pictures = [_shown(sample, frozen, engine, before, after) for sample in samples["test"][:SHOWN]]
    report = _figures(before, after, info, exported, timed) | _sizes(run, bundle) | {"curve": _curve(run)}
    return report, pictures


def _frozen() -> "Segmenter":
    """The base as it comes, in torch."""
    from .train.engine import segmenter_of
    from .train.models.methods import build_model

    return segmenter_of(build_model("clipseg/frozen", SIZE), name="frozen", method="clipseg/frozen", size=SIZE)


def _level(segmenter: "Segmenter", samples: dict[str, list[Sample]]) -> Level:
    """Score a model at the threshold that suits it best on validation, so that it is not beaten by its threshold."""
    from .train.threshold import choose_threshold

    threshold, _ = choose_threshold(segmenter.probability, samples["val"], PROMPT)
    return _measure(segmenter, samples["test"], threshold)


def _measure(segmenter: "Segmenter", samples: Sequence[Sample], threshold: float) -> Level:
    from .deploy.evaluate import evaluate

    result = evaluate(segmenter, samples, PROMPT, data="data", split="test", threshold=threshold, hd95=False)
    return Level(threshold, result["mean"]["dice"], {image["name"]: image["dice"] for image in result["images"]})


def _threads() -> int:
    """As many threads for the engine as torch takes."""
    import torch

    return torch.get_num_threads()


def _bench(torch: "Segmenter", engine: "Segmenter", sample: Sample) -> dict[str, Any]:
    from .deploy.bench.plan import Plan, Subject
    from .deploy.bench.run import measure

    plan = Plan(repeats=ROUNDS, prompt=choose_prompt(sample, PROMPT))
    return measure([Subject("run", torch), Subject("bundle", engine)], plan, sample.image, threads=_threads())


def _shown(sample: Sample, frozen: "Segmenter", engine: "Segmenter", before: Level, after: Level) -> "Shown":
    """One test picture with the outlines of the truth, of the frozen base and of the bundle."""
    from .demo.overlay import draw_mask
    from .export.report import Shown, data_uri

    image, true = read_pair(sample)
    sentence = choose_prompt(sample, PROMPT)
    was, is_now = frozen.segment(image, sentence, before.threshold), engine.segment(image, sentence, after.threshold)
    return Shown(
        sentence=sentence,
        truth=data_uri(draw_mask(image, true, 0, TRUTH)),
        before=data_uri(draw_mask(image, was, VEIL, BEFORE)),
        after=data_uri(draw_mask(image, is_now, VEIL, AFTER)),
        dice_before=before.images[sample.name],
        dice_after=after.images[sample.name],
    )


def _figures(
    before: Level, after: Level, info: dict[str, Any], exported: dict[str, Any], timed: dict[str, Any]
) -> dict[str, Any]:
    p50 = {row["bundle"]: row["p50_ms"] for row in timed["rows"] if row["stage"] == "first_prompt"}
    (ratio,) = [ratio for ratio in timed["ratios"] if ratio["stage"] == "first_prompt"]
    return {
        "dice_before": before.dice,
        "dice_after": after.dice,
        "dice_torch": info["metrics"]["test"]["dice"],
        "threshold_before": before.threshold,
        "threshold_after": after.threshold,
        "flipped_share": exported["parity"]["flipped_share"],
        "p50_ms_torch": p50["run"],
        "p50_ms_engine": p50["bundle"],
        "engine_to_torch": {key: ratio[key] for key in ("median", "low", "high", "pairs")},
        "method": METHOD,
        "size": SIZE,
        "images": IMAGES,
        "trained_parameters": info["trained_parameters"],
        "epochs": info["epochs"],
        "best_epoch": info["best_epoch"],
        "backbone": info["backbone"],
        "weights_hash": info["weights_hash"],
        "recipe": info["recipe"],
        "parity": exported["parity"],
        "folds": exported["folds"],
        "bench": timed,
        "versions": _versions(),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _sizes(run: Path, bundle: Path) -> dict[str, Any]:
    """Bytes of the adapter's file, of the model's ONNX parts, and of the whole bundle."""
    from .train.models.runs import TRAINED

    parts = sum(path.stat().st_size for path in bundle.glob("*.onnx"))
    whole = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    return {"adapter_bytes": (run / TRAINED).stat().st_size, "onnx_bytes": parts, "bundle_bytes": whole}


def _curve(run: Path) -> list[dict[str, float]]:
    """The rows of `metrics.csv` as numbers."""
    with open(run / "metrics.csv", newline="", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def _indented(say: Callable[[str], None]) -> Callable[[str], None]:
    return lambda text: say(f"      {text}")
