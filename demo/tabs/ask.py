"""Ask the model: many sentences about one picture, side by side, and what each of them cost."""

from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from ...deploy.answers import Result
from ...deploy.errors import UserError
from ...deploy.outputs.area import measure_area
from ...deploy.pixels import to_mask
from ..cards import Card, cards_html
from ..models import Models
from ..overlay import overlay
from ..prompts import COLOURS, COUNTS, PLACES, SHAPES, SIZES, STEPS, Said, ladder
from ..session import Seen, Session, looking_at
from ..shared import QUIET, Shared, picture_column
from ..spoken import spoken

CHIPS = {"count": COUNTS, "size": SIZES, "colour": COLOURS, "shape": SHAPES, "place": PLACES}
STEPS_AT_FIRST = ["p1", "p3", "p5", "p6"]
UNSAID = "any"
MOST = 12
HINT = '<p class="hint">Choose words, then ask: each step of the ladder says one thing more.</p>'


@dataclass(frozen=True)
class Words:
    """The controls that sentences are made from."""

    noun: gr.Textbox
    chips: list[gr.Radio]
    clause: gr.Textbox
    steps: gr.CheckboxGroup
    own: gr.Textbox

    @property
    def inputs(self) -> list[Any]:
        """All of them, in the order that `sentences` takes."""
        return [self.noun, *self.chips, self.clause, self.steps, self.own]


def build(shared: Shared) -> None:
    """Lay out the tab and join its controls."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            column, _ = picture_column(shared, "ask")
        with gr.Column(scale=7, min_width=320, elem_classes="chips"):
            words = _words(shared.examples[0].noun if shared.examples else "lesion")
            preview = gr.HTML(_preview(*_start(words)), elem_id="ladder")
            button = gr.Button("Ask all", variant="primary", elem_id="ask-all")
    answers = gr.HTML(HINT, elem_id="answers")
    shared.results.append(answers)
    shared.fills.append((words.noun, lambda example: example.noun))
    gr.on(
        [control.change for control in words.inputs],
        _preview,
        words.inputs,
        preview,
        queue=False,
        trigger_mode="always_last",
        **QUIET,
    )
    button.click(
        spoken(lambda *values: ask(shared.models, *values)),
        [shared.kept, column.image, shared.bundle, *words.inputs],
        [shared.kept, answers],
        api_visibility="private",
        show_progress="minimal",
        concurrency_id="model",
    )


def ask(models: Models, kept: Session, file: str | None, bundle: str, *words: Any) -> tuple[Session, str]:
    """Ask every sentence; return the session and the answers as HTML.

    Raises:
        UserError: no picture, nothing to ask, or what reading and running raise.
    """
    asked = sentences(*words)
    if not asked:
        raise UserError("there is nothing to ask: tick a step of the ladder, or write sentences of your own")
    kept, seen = looking_at(kept, file)
    results = models.run_all(bundle, seen.pixels, [sentence for _, sentence in asked])
    threshold = models.manifests[bundle].threshold
    cards = [
        _card(step, sentence, seen, result, threshold) for (step, sentence), result in zip(asked, results, strict=True)
    ]
    return kept, cards_html(cards, _cost(results, models.engine))


def sentences(noun: str, *rest: Any) -> list[tuple[str, str]]:
    """Return what is to be asked: the ticked steps that say something new, then own sentences, one a line."""
    *chips, clause, steps, own = rest
    said = dict(zip(CHIPS, (None if chip in (None, UNSAID) else chip for chip in chips), strict=True))
    rungs = ladder(Said(noun, clause=clause or "", **said))
    asked: dict[str, str] = {}
    for step in STEPS:
        if step in steps:
            asked.setdefault(rungs[step], step)
    for line in filter(None, map(str.strip, (own or "").splitlines())):
        asked.setdefault(line, "own")
    return [(step, sentence) for sentence, step in asked.items()][:MOST]


def _words(noun: str) -> Words:
    with gr.Row():
        name = gr.Textbox(noun, label="Class", elem_id="noun", min_width=120)
        clause = gr.Textbox("", label="What is known of it (p7 to p9)", placeholder="which is a growth of tissue")
    labels = {"count": "Number", "size": "Size", "colour": "Colour", "shape": "Shape", "place": "Place"}
    chips = [
        gr.Radio([UNSAID, *choices], value=UNSAID, label=labels[kind], elem_id=f"chip-{kind}")
        for kind, choices in CHIPS.items()
    ]
    steps = gr.CheckboxGroup(list(STEPS), value=STEPS_AT_FIRST, label="Steps", elem_id="steps")
    own = gr.Textbox("", label="Sentences of your own, one a line", lines=2, max_lines=6, elem_id="own")
    return Words(name, chips, clause, steps, own)


def _start(words: Words) -> list[Any]:
    return [control.value for control in words.inputs]


def _preview(*words: Any) -> str:
    rows = "".join(
        f"<dt>{escape(step)}</dt><dd>{escape(sentence) or '<em>(says nothing)</em>'}</dd>"
        for step, sentence in sentences(*words)
    )
    return f'<dl class="ladder" aria-label="sentences to ask">{rows}</dl>'


def _card(step: str, sentence: str, seen: Seen, result: Result, threshold: float) -> Card:
    area = measure_area(to_mask(result.probability, threshold), seen.picture.spacing)
    drawn = overlay(seen.pixels, result.probability, threshold)
    facts = {
        "area": f"{area.share:.2%}" if area.mm2 is None else f"{area.mm2:,.1f} mm²",
        "surest": f"{result.probability.max():.2f}",
        "time": f"{result.timings.total:.1f} ms",
    }
    return Card(step, sentence or "(says nothing)", [(f"answer to {sentence!r}", drawn)], facts)


def _cost(results: list[Result], engine: str) -> str:
    """Say what the first sentence cost, with the picture, and what each further one did, without it."""
    first, *rest = (result.timings.total for result in results)
    told = f"<b>{first:.1f} ms</b> for the first sentence, picture included"
    if rest:
        mean = sum(rest) / len(rest)
        told += f"; <b>{mean:.1f} ms</b> for each further one: the picture is encoded once"
    return f'<p class="cost">{told} <span>({escape(engine)})</span></p>'
