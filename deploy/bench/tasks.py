"""What can be timed of a subject: its parts alone, the parts together, and the ways from a picture to a mask."""

import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import EngineError
from ..files import atomic_write
from ..pixels import read_image
from ..segmenter import Segmenter
from .plan import Call, Plan, Task

Stage = tuple[str, int]
"""A stage and its batch."""
ENGINE = "engine"
END_TO_END = "end_to_end"


def tasks_of(segmenter: Segmenter, plan: Plan, picture: Path) -> tuple[dict[Stage, Task], dict[int, str]]:
    """Return every task of one subject by stage and batch, and why a batch cannot be had.

    Fixed prompts have no text part and no new prompt. An engine that was built for certain batch sizes refuses others.

    Raises:
        EngineError: even a batch of one does not run.
    """
    prompt = asked(segmenter, plan)
    tasks: dict[Stage, Task] = {}
    skipped: dict[int, str] = {}
    for batch in plan.batches:
        try:
            tasks |= {(stage, batch): task for stage, task in _engine_tasks(segmenter, prompt, picture, batch)}
        except EngineError as error:
            if batch == 1:
                raise
            skipped[batch] = str(error)
    return tasks | {(stage, 1): task for stage, task in _whole_tasks(segmenter, prompt, picture).items()}, skipped


def asked(segmenter: Segmenter, plan: Plan) -> str:
    """Return the sentence that a subject is asked."""
    fixed = segmenter.manifest.fixed_prompts
    return fixed[0] if fixed else plan.prompt


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


def _engine_tasks(segmenter: Segmenter, prompt: str, picture: Path, batch: int) -> Iterator[tuple[str, Task]]:
    inputs = segmenter.inputs_of_parts(read_image(picture), prompt, batch)
    calls: dict[str, Callable[[], object]] = {
        part: partial(segmenter.run_part, part, given) for part, given in inputs.items()
    }
    for part, call in calls.items():
        yield part, Task(nothing, call)

    def one_after_the_other() -> None:
        for call in calls.values():
            call()

    yield ENGINE, Task(nothing, one_after_the_other)


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
        END_TO_END: Task(segmenter.forget, from_file),
    }


def _known_image(segmenter: Segmenter, image: np.ndarray, prompt: str) -> Call:
    """Return a call after which the image is known and the prompt is new."""

    def prepare() -> None:
        segmenter.logits(image, prompt)
        segmenter.forget(images=False)

    return prepare


def nothing() -> None:
    """Prepare nothing."""
