"""The small figures beside the picture, as HTML: area, time by stage, and what the model is."""

from dataclasses import asdict
from html import escape

from ..deploy.manifest import Manifest
from ..deploy.segmenter import Timings
from .overlay import Area

STAGES = {
    "preprocess": "prepare",
    "image": "image encoder",
    "text": "text encoder",
    "decoder": "decoder",
    "postprocess": "to full size",
}


def area_html(area: Area, threshold: float) -> str:
    """Return the measured area as a tile."""
    share = f"{area.share:.2%}"
    note = f"of the picture at threshold {threshold:.2f}"
    return f'<div class="reading"><b>{area.pixels:,} px</b><span>{share} {note}</span></div>'


def latency_html(timings: Timings, engine: str) -> str:
    """Return one bar for each stage, in milliseconds; a stage that the cache answered says so."""
    stages = asdict(timings)
    longest = max(stages.values()) or 1.0
    rows = "".join(_bar(STAGES[name], value, value / longest) for name, value in stages.items())
    total = f"<b>{timings.total:.1f} ms</b><span>on {escape(engine)}</span>"
    return f'<div class="reading">{total}<dl class="stages" aria-label="time by stage">{rows}</dl></div>'


def model_html(manifest: Manifest) -> str:
    """Return who the model is, in one line: method, backbone, precision, and the proof of its export."""
    facts = [manifest.method, manifest.backbone, f"{manifest.image_size} px", manifest.precision]
    if "dice_min" in manifest.parity:
        facts.append(f"lowest parity Dice {manifest.parity['dice_min']:.4f}")
    # a fact is not broken over two lines
    return f'<p class="facts">{" · ".join(escape(str(fact)).replace(" ", "&nbsp;") for fact in facts if fact)}</p>'


def _bar(label: str, value: float, share: float) -> str:
    if not value:
        return f"<dt>{label}</dt><dd></dd><dd>cached</dd>"
    return f'<dt>{label}</dt><dd><i style="width:{share:.1%}"></i></dd><dd>{value:.1f} ms</dd>'
