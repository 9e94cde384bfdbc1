"""One cell of a grid of evidence: trained, judged by the runtime's own evaluation, and written as rows.

`python -m vlseg.train.evidence_cell FILE.json` runs one in a process of its own, as `vlseg evidence` does.
"""

import csv
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from ..deploy.annotations import Sample, choose_prompt, read_split
from ..deploy.errors import UserError
from ..deploy.evaluate import evaluate
from ..deploy.rows import append_row
from ..deploy.segmenter import Segmenter
from .absent import Absent
from .engine import open_run, segmenter_of
from .evidence_grid import RULES, Cell
from .fidelity import options_of
from .fit import Say, fit, to_stderr
from .models.methods import backbone_of, build_model
from .models.runs import TRAINED
from .rules import ImageOnly, fit_mean_mask, fit_otsu
from .seeds import derive
from .splits import Splits, read_splits
from .threshold import choose_threshold

ASKED = "asked"
EMPTY = 0.01  # of the area
CURVE = ("epoch", "step", "minutes", "train_loss", "val_loss", "val_dice")
ALMOST = 0.95  # of the best validation Dice


@dataclass(frozen=True)
class Job:
    """A cell and where things are: `data` the folder of data folders, `run` the cell's own, `rows` the CSV to add to.

    `weights_hash` is that of the frozen weights, "" where none are frozen.
    """

    cell: Cell
    data: Path
    run: Path
    rows: Path
    weights_hash: str

    @property
    def key(self) -> str:
        """What the cell is called in the rows."""
        return self.cell.key(self.weights_hash)

    @property
    def folders(self) -> list[Path]:
        """The data folders of its last stage."""
        return [self.data / name for name in self.cell.stages[-1]]

    @property
    def before(self) -> "Job | None":
        """What must be done before its last stage."""
        cell = self.cell.before
        return cell and replace(self, cell=cell, run=self.run.with_name(cell.name(self.weights_hash)))

    def to_json(self) -> str:
        """Return it as JSON."""
        paths = {"data": str(self.data), "run": str(self.run), "rows": str(self.rows)}
        return json.dumps({"cell": vars(self.cell), "weights_hash": self.weights_hash} | paths)

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """Take it back."""
        told = json.loads(text)
        cell: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in told["cell"].items()}
        data, run, rows = (Path(told[key]) for key in ("data", "run", "rows"))
        return cls(Cell(**cell), data, run, rows, told["weights_hash"])


@dataclass(frozen=True)
class Trained:
    """A segmenter of a cell, its threshold, the validation Dice that chose it, and what training it came to."""

    segmenter: Segmenter | ImageOnly
    threshold: float
    val_dice: float
    facts: dict[str, Any]


class Watched:
    """A segmenter that counts how many of its masks are as good as empty."""

    def __init__(self, segmenter: Segmenter | ImageOnly) -> None:
        self._segmenter, self.engine, self.empty = segmenter, segmenter.engine, 0

    def segment(self, image: np.ndarray, prompt: str, threshold: float) -> np.ndarray:
        """Return bool (H, W)."""
        mask = self._segmenter.segment(image, prompt, threshold)
        self.empty += bool(mask.mean() < EMPTY)
        return mask


def run_cell(job: Job, asked: Sequence[tuple[str, str]], say: Say = to_stderr) -> list[dict[str, Any]]:
    """Train the cell of a job, or take it as it was trained before, and add a row for each of `asked`.

    These are pairs of a prompt and the name of a folder whose images are asked. The epochs go to `curves.csv` beside
    the rows. Raises UserError for whatever `fit` does and for unknown prompts.
    """
    cell = job.cell
    splits = read_splits(job.folders, cell.recipe)
    # a wrong prompt shows before the training
    samples = {(prompt, on): ask(_tested(job, on), prompt, _others(job, on)) for prompt, on in asked}
    trained = _rule(cell, splits) if cell.method in RULES else _trained(job, splits, say)
    rows = [_row(job, trained, prompt, on, own) for (prompt, on), own in samples.items()]
    for row in rows:
        append_row(job.rows, row)
    return rows


def ask(samples: Sequence[Sample], prompt: str, others: Mapping[str, Sequence[Sample]] | None = None) -> list[Sample]:
    """Return the samples with one sentence each, under the key `ASKED`: what a cell's `prompt` says.

    `shuffled:KEY` gives each the sentence of another sample, one that differs where there is one; `absent:KEY` one of
    `others`, samples by folder, or of `OBJECTS`.
    """
    if prompt.startswith(("=", "absent=")):
        kind, _, text = prompt.partition("=")
        return [_asking(sample, text, absent=bool(kind)) for sample in samples]
    kind, colon, key = prompt.rpartition(":")
    if kind not in ("", "shuffled", "absent") or (colon and not kind):
        raise UserError(
            f"no prompt {prompt!r}: expected a key such as p1, shuffled:p1, absent:p1, =WORDS or absent=WORDS"
        )
    if kind == "absent":
        absent = Absent({"": samples, **(others or {})}, key)
        return [_asking(sample, absent.sentence("", sample.name), absent=True) for sample in samples]
    own = [choose_prompt(sample, key) for sample in samples]
    if not kind:
        return [_asking(sample, text) for sample, text in zip(samples, own, strict=True)]
    return [_asking(sample, _another(sample, text, own)) for sample, text in zip(samples, own, strict=True)]


def _asking(sample: Sample, text: str, absent: bool = False) -> Sample:
    return replace(sample, prompts={ASKED: text}, absent=absent)


def _another(sample: Sample, text: str, texts: Sequence[str]) -> str:
    others = sorted({other for other in texts if other != text})
    return others[derive("shuffled", sample.name) % len(others)] if others else text


def _tested(job: Job, on: str) -> list[Sample]:
    folder = job.data / on
    if on in job.cell.learned:
        return read_split(folder, "test")
    names = sorted(path.stem for path in (folder / "anns").glob("*.json")) or ["test"]
    return [sample for name in names for sample in read_split(folder, name)]


def _others(job: Job, on: str) -> dict[str, list[Sample]]:
    return {name: read_split(job.data / name, "train") for name in job.cell.learned if name != on}


def _rule(cell: Cell, splits: Splits) -> Trained:
    segmenter = {"otsu": fit_otsu, "mean-mask": fit_mean_mask}[cell.method](splits)
    return Trained(segmenter, *choose_threshold(segmenter.probability, splits["val"], cell.train_prompt), {})


def _trained(job: Job, splits: Splits, say: Say) -> Trained:
    cell = job.cell
    if not cell.trains:
        return _frozen(cell, splits)
    info = _fit(job, say)
    curve = _curve(job)
    best = max(float(row["val_dice"]) for row in curve)
    facts = {key: info[key] for key in ("epochs", "best_epoch", "image_size", "backbone", "trained_parameters")}
    facts |= {
        "steps": int(curve[-1]["step"]),
        "train_minutes": info["minutes"],
        "minutes_to_95": next(round(float(r["minutes"]), 3) for r in curve if float(r["val_dice"]) >= ALMOST * best),
        "megabytes": round((job.run / TRAINED).stat().st_size / 1e6, 3),
    }
    return Trained(open_run(job.run), info["threshold"], info["metrics"]["val"]["dice"], facts)


def _fit(job: Job, say: Say) -> dict[str, Any]:
    recipe = job.cell.recipe
    if (before := job.before) is not None:
        _fit(before, say)
        recipe = recipe.replace(start=str(before.run))
    return fit(recipe, job.folders, job.run, test=False, say=say)


def _frozen(cell: Cell, splits: Splits) -> Trained:
    recipe = cell.recipe
    model = build_model(
        cell.method, cell.size, weights=recipe.weights, image_size=recipe.image_size, **options_of(recipe)
    )
    segmenter = segmenter_of(model, method=cell.method, size=cell.size)
    facts = {"image_size": model.image_size, "backbone": model.backbone, "trained_parameters": 0, "megabytes": 0}
    return Trained(segmenter, *choose_threshold(segmenter.probability, splits["val"], cell.train_prompt), facts)


def _curve(job: Job) -> list[dict[str, str]]:
    """Return the epochs of a finished run, and add them to the file of curves; `cell` is what a row of it is."""
    with open(job.run / "metrics.csv", newline="") as file:
        epochs = list(csv.DictReader(file))
    path, text = job.rows.with_name("curves.csv"), io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if not path.exists():
        writer.writerow(["cell", *CURVE])
    writer.writerows([job.key, *(epoch[column] for column in CURVE)] for epoch in epochs)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab", buffering=0) as file:
        file.write(text.getvalue().encode())
    return epochs


def _row(job: Job, trained: Trained, prompt: str, on: str, samples: list[Sample]) -> dict[str, Any]:
    cell, watched = job.cell, Watched(trained.segmenter)
    report = evaluate(cast(Segmenter, watched), samples, ASKED, data=on, split="test", threshold=trained.threshold)
    keep_images(job, prompt, on, report["images"])
    own = cell.method not in RULES
    told = {
        "cell": job.key, "data": cell.data, "tested_on": on, "method": cell.method,
        "size": cell.size if own else "", "set": " ".join(cell.set), "seed": cell.seed, "prompt": prompt,
        "train_prompt": cell.train_prompt, "train_images": cell.train_images or "", "val_images": cell.val_images or "",
        "minutes_allowed": cell.recipe.max_minutes if cell.trains else "", "steps_allowed": cell.steps or "",
        "fidelity": cell.recipe.fidelity, "n": report["n"],
    }  # fmt: skip
    judged = {"empty_share": round(watched.empty / report["n"], 4), "hd95_one_empty": report["hd95_one_empty"]}
    known = {"threshold": trained.threshold, "val_dice": round(trained.val_dice, 5), "weights_hash": job.weights_hash}
    return told | _figures(report["images"]) | judged | known | {key: trained.facts.get(key, "") for key in FACTS}


FACTS = (
    "trained_parameters", "megabytes", "train_minutes", "minutes_to_95", "epochs", "best_epoch", "steps", "image_size",
    "backbone",
)  # fmt: skip


def images_file(run: Path) -> Path:
    """Return the CSV beside a cell's folder that keeps the Dice of each image, for comparisons image by image."""
    return run.with_name(f"{run.name}.images.csv")


def keep_images(job: Job, prompt: str, on: str, images: list[dict[str, Any]]) -> None:
    """Add the Dice of the images of `on` that were asked `prompt` to the cell's file."""
    path, text = images_file(job.run), io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if not path.exists():
        writer.writerow(["prompt", "image", "dice"])
    folder = "" if on == job.cell.data else f"{on}/"
    writer.writerows([prompt, folder + image["name"], image["dice"]] for image in images)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab", buffering=0) as file:
        file.write(text.getvalue().encode())


def _figures(images: list[dict[str, Any]]) -> dict[str, Any]:
    """Return mean and spread (standard deviation over the images, "" for one alone) of each metric."""
    figures: dict[str, Any] = {}
    for metric in ("dice", "iou", "hd95"):
        values = np.array([image[metric] for image in images])
        spread = round(float(values.std(ddof=1)), 5) if len(values) > 1 else ""
        figures |= {metric: round(float(values.mean()), 5), f"{metric}_sd": spread}
    return figures


def weights_of() -> Callable[[Cell], str]:
    """Return a function from a cell to the hash of its frozen weights, "" where none are; each is loaded once."""
    known: dict[tuple, str] = {}

    def weights_hash(cell: Cell) -> str:
        room, recipe = cell.method.partition("/")[0], cell.recipe
        if cell.method in RULES or room == "image":
            return ""
        if (key := (room, cell.size, recipe.weights)) not in known:
            with torch.random.fork_rng():
                torch.manual_seed(0)  # random weights are this draw, as `build_model` has it
                known[key] = backbone_of(cell.method).load(cell.size, recipe.weights, None).weights_hash
        return known[key]

    return weights_hash


def main(path: str) -> int:
    """Run the job of a file; what is wrong with it goes to stderr in one sentence, and 2 is returned."""
    try:
        told = json.loads(Path(path).read_text())
        run_cell(Job.from_json(json.dumps(told["job"])), [(prompt, on) for prompt, on in told["asked"]])
    except UserError as error:
        to_stderr(f"vlseg: {error}")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
