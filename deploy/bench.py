"""How fast bundles are: engines alone and end to end apart, several bundles and engines side by side in one run.

Protocol: per stage and batch, every subject is warmed up, then timed in rounds; a round times each subject once, in an
order drawn anew, so that whatever the machine does at that moment falls on all of them. Ratios are of pairs of one
round.
"""

import io
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image

from .engine import AUTO, choose_engine
from .errors import UserError
from .facts import peak_rss_mib, read_facts
from .files import atomic_write
from .pixels import read_image
from .segmenter import Segmenter
from .stats import paired_ratio, summary

PROMPT = "one small round bright spot in the upper left of the image"
Progress = Callable[[int, int], None]
Call = Callable[[], object]


@dataclass(frozen=True)
class Subject:
    """One thing to time: a bundle on an engine, under the name that its rows carry."""

    bundle: str
    segmenter: Segmenter


@dataclass(frozen=True)
class Task:
    """One stage of one subject: `prepare` is not timed, `call` is."""

    prepare: Call
    call: Call


@dataclass(frozen=True)
class Plan:
    """How much to measure.

    Attributes:
        repeats: timed rounds.
        warmup: rounds before them.
        batches: batch sizes of the engine stages; the stages from picture to mask have batch 1.
        prompt: the sentence; a bundle of fixed prompts is asked its first one.
    """

    repeats: int = 50
    warmup: int = 5
    batches: Sequence[int] = (1,)
    prompt: str = PROMPT


def bench(
    bundles: Sequence[Path | str],
    engines: Sequence[str] = (AUTO,),
    *,
    repeats: int = 50,
    warmup: int = 5,
    batches: Sequence[int] = (1,),
    threads: int | None = None,
    image: Path | str | None = None,
    prompt: str = PROMPT,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Time every bundle on every engine, interleaved; return `{device, rows, ratios}`, plain JSON values.

    `image` None is a drawn picture of 512 x 384. `threads` None is the engine's choice. The rest is `Plan`.

    Raises:
        UserError: no bundles, a count below 1, or what opening a bundle raises.
    """
    names = list(dict.fromkeys(choose_engine(name) for name in engines))
    if not bundles or not names:
        raise UserError("nothing to bench: name at least one bundle and one engine")
    called = zip(_names([Path(bundle) for bundle in bundles]), bundles, strict=True)
    subjects = [Subject(label, Segmenter.open(bundle, name, threads)) for label, bundle in called for name in names]
    try:
        plan = Plan(repeats, warmup, batches, prompt)
        with tempfile.TemporaryDirectory() as scratch:
            picture = Path(image) if image else draw_image(Path(scratch) / "drawn.png")
            return measure(subjects, plan, picture, threads=threads, progress=progress)
    finally:
        for subject in subjects:
            subject.segmenter.close()


def measure(
    subjects: Sequence[Subject],
    plan: Plan,
    picture: Path,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Time subjects that are open already, a run in torch among them; return what `bench` returns.

    `threads` is only noted down. Ratios are of each later subject to the first.
    """
    if min(plan.repeats, plan.warmup + 1, *plan.batches) < 1:
        raise UserError(f"{plan} has a count below 1, expected at least one repeat and batches from 1")
    tasks = [_tasks(subject.segmenter, plan, picture) for subject in subjects]
    # As a dict, so that stages keep their order.
    stages = list(dict.fromkeys(stage for own in tasks for stage in own))
    rows, ratios = [], []
    for done, stage in enumerate(stages, start=1):
        present = [i for i, own in enumerate(tasks) if stage in own]
        times = dict(zip(present, _interleave([tasks[i][stage] for i in present], plan), strict=True))
        rows += [_row(subjects[i], stage, series) for i, series in times.items()]
        ratios += [_ratio(subjects, i, stage, times) for i in present if i and 0 in times]
        if progress:
            progress(done, len(stages))
    return {"device": {**asdict(read_facts()), "threads": threads}, "rows": rows, "ratios": ratios}


def draw_image(path: Path, width: int = 512, height: int = 384, seed: int = 0) -> Path:
    """Write a drawn picture (a shaded ground, one blob, a little noise) and return its path."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    blob = np.exp(-(((x - width / 3) / 40) ** 2) - ((y - height / 3) / 30) ** 2)
    noise = np.random.default_rng(seed).normal(0, 3, (height, width, 3))
    shade = np.stack([60 + 60 * x / width + 110 * blob, 50 + 40 * y / height + 90 * blob, 70 + 20 * blob], axis=2)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(shade + noise, 0, 255).astype(np.uint8)).save(buffer, format="PNG")
    atomic_write(path, buffer.getvalue())
    return path


def _names(bundles: list[Path]) -> list[str]:
    """Return each folder's name, or its path where two have one name."""
    names = [bundle.resolve().name for bundle in bundles]
    return [str(bundle) if names.count(name) > 1 else name for bundle, name in zip(bundles, names, strict=True)]


def _tasks(segmenter: Segmenter, plan: Plan, picture: Path) -> dict[tuple[str, int], Task]:
    """Return every task of one subject by stage and batch; fixed prompts have no text part and no new prompt."""
    fixed = segmenter.manifest.fixed_prompts
    prompt = fixed[0] if fixed else plan.prompt
    tasks: dict[tuple[str, int], Task] = {}
    for batch in plan.batches:
        tasks |= {(stage, batch): task for stage, task in _engine_tasks(segmenter, prompt, picture, batch).items()}
    return tasks | {(stage, 1): task for stage, task in _whole_tasks(segmenter, prompt, picture).items()}


def _engine_tasks(segmenter: Segmenter, prompt: str, picture: Path, batch: int) -> dict[str, Task]:
    inputs = segmenter.inputs_of_parts(read_image(picture), prompt, batch)
    return {part: Task(_nothing, partial(segmenter.run_part, part, given)) for part, given in inputs.items()}


def _whole_tasks(segmenter: Segmenter, prompt: str, picture: Path) -> dict[str, Task]:
    image = read_image(picture)

    def from_file() -> object:
        return segmenter.segment(read_image(picture), prompt)

    def from_pixels() -> object:
        return segmenter.segment(image, prompt)

    tasks = {"first_prompt": Task(segmenter.forget, from_pixels)}
    if not segmenter.manifest.fixed_prompts:
        tasks["second_prompt_new"] = Task(_known_image(segmenter, image, prompt), from_pixels)
    return {
        **tasks,
        "second_prompt_known": Task(from_pixels, from_pixels),
        "end_to_end": Task(segmenter.forget, from_file),
    }


def _known_image(segmenter: Segmenter, image: np.ndarray, prompt: str) -> Call:
    """Return a call after which the image is known and the prompt is new."""

    def prepare() -> None:
        segmenter.logits(image, prompt)
        segmenter.forget(images=False)

    return prepare


def _nothing() -> None:
    """Prepare nothing."""


def _interleave(tasks: list[Task], plan: Plan) -> list[list[float]]:
    """Return the times in ms of each task, round by round."""
    order, draw = list(range(len(tasks))), random.Random(0)
    times: list[list[float]] = [[] for _ in tasks]
    for turn in range(plan.warmup + plan.repeats):
        draw.shuffle(order)
        for i in order:
            tasks[i].prepare()
            start = perf_counter()
            tasks[i].call()
            if turn >= plan.warmup:
                times[i].append((perf_counter() - start) * 1000)
    return times


def _row(subject: Subject, stage: tuple[str, int], times: list[float]) -> dict[str, Any]:
    figures = summary(times)
    return {
        "bundle": subject.bundle,
        "engine": subject.segmenter.engine,
        "precision": subject.segmenter.manifest.precision,
        "batch": stage[1],
        "stage": stage[0],
        **figures,
        "images_per_s": stage[1] * 1000 / figures["mean_ms"],
        "peak_rss_mib": peak_rss_mib(),
    }


def _ratio(
    subjects: Sequence[Subject], i: int, stage: tuple[str, int], times: dict[int, list[float]]
) -> dict[str, Any]:
    return {
        "bundle": subjects[i].bundle,
        "engine": subjects[i].segmenter.engine,
        "against": subjects[0].bundle,
        "against_engine": subjects[0].segmenter.engine,
        "batch": stage[1],
        "stage": stage[0],
        **paired_ratio(times[i], times[0])._asdict(),
    }
