"""The small figures beside the pictures, as HTML: area, time by stage, and what the model is."""

from dataclasses import asdict
from html import escape

from ..deploy.answers import Timings
from ..deploy.manifest import Manifest
from ..deploy.outputs.area import Area

STAGES = {
    "decode": "decode file",
    "preprocess": "preprocess",
    "image": "image encoder",
    "text": "text encoder",
    "decoder": "decoder",
    "postprocess": "postprocess",
}


def area_html(area: Area, threshold: float) -> str:
    """Return the measured area as a tile: in mm2 first, where the file told a pixel's size."""
    pixels = f"{area.pixels:,} px"
    big, small = (pixels, []) if area.mm2 is None else (f"{area.mm2:,.1f} mm²", [pixels])
    note = " · ".join([*small, f"{area.share:.2%} of the picture at threshold {threshold:.2f}"])
    return f'<div class="reading"><b>{big}</b><span>{note}</span></div>'


def latency_html(timings: Timings, engine: str, decode_ms: float = 0.0) -> str:
    """Return one bar for each stage, in milliseconds; a stage that needed no work says so."""
    stages = {"decode": decode_ms, **asdict(timings)}
    total = f"<b>{sum(stages.values()):.1f} ms</b><span>from file to mask on {escape(engine)}</span>"
    return f'<div class="reading">{total}{bars_html(stages)}</div>'


def bars_html(stages: dict[str, float]) -> str:
    """Return a bar for each stage, milliseconds by the names of `STAGES`."""
    longest = max(stages.values()) or 1.0
    rows = "".join(_bar(label, stages.get(name, 0.0), longest) for name, label in STAGES.items())
    return f'<dl class="stages" aria-label="time by stage">{rows}</dl>'


def model_html(manifest: Manifest) -> str:
    """Return who the model is, in one line: method, backbone, precision, and the proof of its export."""
    facts = [manifest.method, manifest.backbone, f"{manifest.image_size} px", manifest.precision]
    if "dice_min" in manifest.parity:
        facts.append(f"parity {manifest.parity['dice_min']:.4f}")
    # a fact is not broken over two lines
    return f'<p class="facts">{" · ".join(escape(str(fact)).replace(" ", "&nbsp;") for fact in facts if fact)}</p>'


def _bar(label: str, value: float, longest: float) -> str:
    if not value:
        return f"<dt>{label}</dt><dd></dd><dd>known</dd>"
    return f'<dt>{label}</dt><dd><i style="width:{value / longest:.1%}"></i></dd><dd>{value:.1f} ms</dd>'
