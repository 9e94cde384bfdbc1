"""Adapters: up to three bundles on one picture, what each was trained to, what it contributes, and how it scores."""

import gradio as gr
import numpy as np

from ...deploy.errors import UserError
from ...deploy.manifest import Manifest
from ...deploy.pixels import to_mask
from ..attention import attention
from ..cards import Card, cards_html, key_html
from ..files import open_mask
from ..maps import EXTRA, HIT, MISSED, errors, tokens
from ..models import Models
from ..overlay import draw_mask
from ..picture import picture_input
from ..scores import scores
from ..session import Seen, Session, fitted, looking_at
from ..share import shares
from ..shared import Shared, picture_column
from ..spoken import spoken

MOST = 3
HINT = '<p class="hint">Up to three bundles answer the same question. With a true mask they are scored against it.</p>'


def build(shared: Shared) -> None:
    """Lay out the tab and join its controls."""
    names = shared.models.names
    first = shared.examples[0] if shared.examples else None
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=300):
            column, _ = picture_column(shared, "adapters")
        with gr.Column(scale=6, min_width=300):
            chosen = gr.CheckboxGroup(names, value=names[:MOST], label="Bundles, at most three", elem_id="compared")
            prompt = gr.Textbox(first.prompt if first else "", label="Prompt", elem_id="adapters-prompt", max_lines=3)
            button = gr.Button("Compare", variant="primary", elem_id="compare")
            # a mask is a file among others: no camera, and its own pixels, whatever the browser makes of them
            mask = picture_input(
                value=first.mask if first else None,
                label="True mask, to score against (optional)",
                elem_id="truth",
                height=196,
                sources=["upload", "clipboard"],
            )
    answers = gr.HTML(HINT, elem_id="compared-answers")
    shared.results.append(answers)
    shared.bound.append(mask)
    shared.fills.extend([(prompt, lambda example: example.prompt), (mask, lambda example: example.mask)])
    gr.on(
        [button.click, prompt.submit],
        spoken(lambda *values: compare(shared.models, *values)),
        [shared.kept, column.image, mask, prompt, chosen],
        [shared.kept, answers],
        api_visibility="private",
        show_progress="minimal",
        concurrency_id="model",
    )


def compare(
    models: Models, kept: Session, file: str | None, mask: str | None, prompt: str, chosen: list[str]
) -> tuple[Session, str]:
    """Ask every chosen bundle; return the session and the answers as HTML.

    Raises:
        UserError: no picture, prompt or bundle, more than three of them, a mask of another size, or what running
            raises.
    """
    kept, seen = looking_at(kept, file)
    if not prompt.strip():
        raise UserError("the prompt is empty: say what to find, so that the bundles can be compared on it")
    if not 1 <= len(chosen) <= MOST:
        raise UserError(f"{len(chosen)} bundles are ticked: tick one to {MOST}")
    true = open_mask(mask, seen.pixels.shape) if mask else None
    cards = [_card(models, name, seen, prompt.strip(), true) for name in models.names if name in chosen]
    key = key_html({"right": HIT, "missed": MISSED, "too much": EXTRA}) if true is not None else ""
    return kept, cards_html(cards, key)


def _card(models: Models, name: str, seen: Seen, prompt: str, true: np.ndarray | None) -> Card:
    """Ask one bundle; return its answer, its errors and its adapters' shares, as far as they are known."""
    manifest = models.manifests[name]
    result = models.run(name, seen.pixels, prompt)
    share = shares(models.folders[name], manifest, seen.pixels, models.threads)
    gaze = models.using(name, lambda s: attention(models.folders[name], s, seen.pixels, prompt, models.threads))
    mask = to_mask(result.probability, manifest.threshold)
    pictures = [("answer", draw_mask(seen.pixels, mask))]
    facts = scores(mask, true) if true is not None else {}
    if true is not None:
        pictures.append(("against the true mask", errors(seen.pixels, mask, true)))
    if share is not None:
        mean = share.mean(axis=0)
        caption = f"what the adapters add: dark {mean.min():.0%}, bright {mean.max():.0%}"
        pictures.append((caption, tokens(fitted(seen.pixels), mean)))
    if gaze is not None:
        mean = gaze.mean(axis=0)
        caption = f"where the words look: dark {mean.min():.2g}, bright {mean.max():.2g} times an even gaze"
        pictures.append((caption, tokens(fitted(seen.pixels), mean)))
    facts |= {
        "trained": _trained(manifest),
        "area": f"{mask.mean():.2%} at {manifest.threshold:.2f}",
        "time": f"{result.timings.total:.1f} ms",
        "adapters add": _added(manifest, share),
    }
    if gaze is None and "text_tokens" in manifest.flow["image"]["inputs"]:
        facts["where the words look"] = "not told by this bundle"
    return Card(name, _who(manifest), pictures, facts)


def _added(manifest: Manifest, share: np.ndarray | None) -> str:
    if share is not None:
        return f"{share.mean():.1%} of a token in the mean"
    return "there are none" if manifest.method.endswith("/frozen") else "not told by this bundle"


def _who(manifest: Manifest) -> str:
    return f"{manifest.method} on {manifest.backbone or 'its own weights'}"


def _trained(manifest: Manifest) -> str:
    """Return how much was trained, in numbers and in MB of float32, as far as the bundle tells."""
    count = manifest.training.get("trained_parameters")
    if count is None:
        return "nothing" if manifest.method.endswith("/frozen") else "not told by this bundle"
    return f"{count:,} numbers, {count * 4 / 1e6:.2f} MB"
