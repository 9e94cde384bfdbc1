"""Segment: a picture and a sentence in, the mask drawn over the picture, what it measures, and files to take away."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np
from gradio.events import Dependency

from ...deploy.errors import UserError
from ...deploy.outputs.area import measure_area
from ...deploy.pixels import to_mask
from ..examples import Example
from ..maps import heat
from ..models import Models
from ..overlay import VEIL, overlay
from ..picture import picture_output, written
from ..readings import area_html, latency_html
from ..session import Answer, Session, looking_at
from ..shared import HEIGHT, QUIET, Column, Shared, picture_column
from ..spoken import spoken
from ..take import FOLLOW, KINDS, take

VIEWS = ("Overlay", "Probability", "Mask")
Asked = Callable[[Dependency], Dependency]


@dataclass(frozen=True)
class Asking:
    """The controls that ask."""

    prompt: gr.Textbox
    button: gr.Button
    live: gr.Checkbox


@dataclass(frozen=True)
class Showing:
    """What is shown, and the controls that change how without asking again."""

    picture: gr.Image
    area: gr.HTML
    time: gr.HTML
    levels: list[Any]
    takes: dict[str, gr.Button]
    link: gr.DownloadButton

    @property
    def results(self) -> list[Any]:
        """What an answer fills in."""
        return [self.picture, self.area, self.time]


def build(shared: Shared) -> Asked:
    """Lay out the tab and join its controls; return how an example of its column is asked about at once."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            column, asking = picture_column(shared, "segment", lambda: _asking(shared))
        with gr.Column(scale=6, min_width=320):
            showing = _showing(shared.models)
    shared.results.extend(showing.results)
    shared.fills.extend(
        [
            (asking.prompt, lambda example: example.prompt),
            (shared.bundle, lambda example: _bundle(shared, example)),
            (showing.levels[0], lambda example: _threshold(shared, _bundle(shared, example))),
        ]
    )
    _redraw(shared, showing)
    return _ask(shared, column, asking, showing)


def _asking(shared: Shared) -> Asking:
    known = shared.models.manifests[shared.models.names[0]].fixed_prompts
    first = "" if known or not shared.examples else shared.examples[0].prompt
    prompt = gr.Textbox(first, elem_id="prompt", label="Prompt", placeholder=_placeholder(known), max_lines=3)
    with gr.Row(elem_id="asking"):
        button = gr.Button("Segment", variant="primary", elem_id="ask", scale=4)
        live = gr.Checkbox(False, label="Live", elem_id="ask-live", container=False, scale=1, min_width=80)
    return Asking(prompt, button, live)


def _showing(models: Models) -> Showing:
    picture = picture_output(elem_id="mask", label="Answer", height=HEIGHT)
    with gr.Group(elem_id="levels"):
        view = gr.Radio(VIEWS, value=VIEWS[0], label="View", show_label=False, container=False, elem_id="view")
        with gr.Row():
            start = models.manifests[models.names[0]].threshold
            threshold = gr.Slider(0, 1, start, step=0.01, label="Threshold", min_width=160, elem_id="threshold")
            opacity = gr.Slider(0, 1, VEIL, step=0.05, label="Opacity", min_width=160)
    with gr.Row(elem_id="readings"):
        area, time = gr.HTML(label="Area", elem_id="area"), gr.HTML(label="Time", elem_id="time")
    with gr.Row(elem_id="take"):
        takes = {
            kind: gr.Button(label, size="sm", elem_id=f"take-{kind}", min_width=90) for kind, label in KINDS.items()
        }
    # files are made when they are asked for: a hidden link that the browser then follows
    link = gr.DownloadButton(visible="hidden", elem_id="taken")
    return Showing(picture, area, time, [threshold, opacity, view], takes, link)


def _ask(shared: Shared, column: Column, asking: Asking, showing: Showing) -> Asked:
    """Join what asks: the button and Enter, another bundle, and where it is live every change."""
    given = [shared.kept, column.image, asking.prompt, shared.bundle, *showing.levels]
    asked: dict[str, Any] = {
        "inputs": given,
        "outputs": [shared.kept, *showing.results],
        "api_visibility": "private",
        "show_progress": "minimal",
        "concurrency_id": "model",
    }
    run = spoken(lambda *values: segment(shared.models, *values))
    again = spoken(lambda kept, *values: segment(shared.models, kept, *values) if kept.answer else _nothing())
    live = spoken(lambda on, *values: segment(shared.models, *values) if on and values[2].strip() else _nothing())
    gr.on([asking.button.click, asking.prompt.submit], run, **asked)
    gr.on(
        [asking.prompt.change, asking.live.input],
        live,
        **{**asked, "inputs": [asking.live, *given], "show_progress": "hidden", "trigger_mode": "always_last"},
    )
    threshold = shared.bundle.input(lambda name: _threshold(shared, name), shared.bundle, showing.levels[0], **QUIET)
    threshold.then(again, **asked)
    return lambda chosen: chosen.success(run, **asked)


def _redraw(shared: Shared, showing: Showing) -> None:
    """Join what only draws: sliders, the choice of view, and the files to take away."""
    for level in showing.levels:
        level.input(
            redraw,
            [shared.kept, *showing.levels],
            [showing.picture, showing.area],
            queue=False,
            trigger_mode="always_last",
            **QUIET,
        )
    for kind, button in showing.takes.items():
        button.click(
            spoken(lambda kept, threshold, opacity, _, kind=kind: _take(shared, kind, kept, threshold, opacity)),
            [shared.kept, *showing.levels],
            showing.link,
            **QUIET,
        ).success(None, js=FOLLOW)


def segment(
    models: Models,
    kept: Session,
    file: str | None,
    prompt: str,
    bundle: str,
    threshold: float,
    opacity: float,
    view: str = VIEWS[0],
) -> tuple[Session, str, str, str]:
    """Ask the model: return the session with the answer, the drawing's file, and the readings of area and time.

    Raises:
        UserError: no picture, no prompt, or what reading and running raise.
    """
    known = kept.answer
    kept, seen = looking_at(kept, file)
    if not prompt.strip():
        raise UserError('the prompt is empty: say what to find, such as "one small round polyp"')
    result = models.run(bundle, seen.pixels, prompt.strip())
    answer = Answer(seen, prompt.strip(), bundle, result.probability)
    # a picture that was read for an earlier question costs nothing now
    decode = 0.0 if known and known.seen is seen else seen.decode_ms
    time = latency_html(result.timings, models.engine, decode)
    return kept.answered(answer), *_drawn(answer, threshold, opacity, view), time


def redraw(kept: Session, threshold: float, opacity: float, view: str) -> tuple[str | None, str]:
    """Draw the session's answer at other levels: the drawing's file and the reading of the area. No inference."""
    return _drawn(kept.answer, threshold, opacity, view) if kept.answer else (None, "")


def draw(answer: Answer, threshold: float, opacity: float, view: str = VIEWS[0]) -> np.ndarray:
    """Return an answer as a drawing for the screen, uint8 (h, w, 3)."""
    image, probability = answer.seen.small, answer.small
    if view == "Mask":
        return np.repeat(to_mask(probability, threshold)[..., None] * np.uint8(255), 3, axis=2)
    return heat(image, probability) if view == "Probability" else overlay(image, probability, threshold, opacity)


def _drawn(answer: Answer, threshold: float, opacity: float, view: str) -> tuple[str, str]:
    """Return the drawing's file, and the reading of the whole picture's area."""
    area = measure_area(to_mask(answer.probability, threshold), answer.seen.picture.spacing)
    return written(draw(answer, threshold, opacity, view)), area_html(area, threshold)


def _take(shared: Shared, kind: str, kept: Session, threshold: float, opacity: float) -> str:
    return take(kind, kept.answer, shared.models.manifests, threshold, opacity)


def _bundle(shared: Shared, example: Example) -> str:
    """Return the bundle that was made for an example where the page has that one, else the first."""
    return example.bundle if example.bundle in shared.models.names else shared.models.names[0]


def _threshold(shared: Shared, name: str) -> float:
    return shared.models.manifests[name].threshold


def _nothing() -> tuple[Any, ...]:
    return (gr.skip(),) * 4


def _placeholder(fixed_prompts: Sequence[str]) -> str:
    if fixed_prompts:
        return f"this bundle knows: {'; '.join(fixed_prompts)}"
    return "one small round polyp, located in left of the image"
