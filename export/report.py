"""The quickstart's report: one HTML page that carries its pictures, its plot and its style in itself."""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TEMPLATE = "report.html"
STAGES = {
    "image": "image encoder",
    "text": "text encoder",
    "decoder": "decoder",
    "first_prompt": "new picture, new sentence",
    "second_prompt_new": "same picture, new sentence",
    "second_prompt_known": "same picture, known sentence",
    "end_to_end": "from file to mask",
}
# Colours of the plot that the page's own replace, so that it follows light and dark.
_INK, _FAINT, _ACCENT = "#010101", "#020202", "#030303"
_VARIABLES = {_INK: "var(--muted)", _FAINT: "var(--line)", _ACCENT: "var(--accent)"}


@dataclass(frozen=True)
class Shown:
    """A test picture thrice, as data URIs: with the true outline, the frozen base's mask and the bundle's."""

    sentence: str
    truth: str
    before: str
    after: str
    dice_before: float
    dice_after: float


def data_uri(image: np.ndarray) -> str:
    """Return a picture, uint8 (H, W, 3), as a WebP data URI."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", quality=88)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def render(report: dict[str, Any], pictures: Sequence[Shown], out: Path) -> str:
    """Return the page for the contents of `report.json`; `out` is the folder that its commands name."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["mb"] = lambda size: f"{size / 1e6:.2f} MB"
    environment.filters["duration"] = duration
    environment.filters["plot"] = plot
    return environment.get_template(TEMPLATE).render(
        r=report, pictures=pictures, latency=latency(report["bench"]), out=out
    )


def duration(seconds: float) -> str:
    """Return a time as a reader says it: seconds up to two minutes, then minutes to a tenth."""
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.1f} minutes"


def latency(bench: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one line for each stage: its name, the row of torch, the row of the engine, and their ratio."""
    rows = {(row["bundle"], row["stage"]): row for row in bench["rows"]}
    ratios = {ratio["stage"]: ratio for ratio in bench["ratios"]}
    return [
        {"name": name, "torch": rows["run", stage], "engine": rows["bundle", stage], "ratio": ratios[stage]}
        for stage, name in STAGES.items()
        if stage in ratios
    ]


def plot(rows: Sequence[dict[str, float]]) -> str:
    """Return the training curve (validation Dice by epoch) as SVG that takes its colours from the page."""
    from markupsafe import Markup
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    epochs, dice = [row["epoch"] + 1 for row in rows], [row["val_dice"] for row in rows]
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "vlseg", "font.size": 9}):
        figure = Figure(figsize=(5.6, 2.5), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(epochs, dice, color=_ACCENT, linewidth=2, marker="o", markersize=4)
        axes.set(ylim=(0, 1), xlabel="epoch", ylabel="Dice on validation", xticks=epochs)
        axes.grid(axis="y", color=_FAINT, linewidth=0.8)
        axes.tick_params(colors=_INK, length=0)
        axes.xaxis.label.set_color(_INK)
        axes.yaxis.label.set_color(_INK)
        axes.spines[:].set_visible(False)
        axes.annotate(
            f"{dice[-1]:.3f}", (epochs[-1], dice[-1]), (0, 8), textcoords="offset points", color=_INK, ha="center"
        )
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Markup(_themed(buffer.getvalue()))


def _themed(svg: str) -> str:
    """Keep the drawing alone, and let the page's colours and font stand in for ours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r" font-family: [^;\"]*;", "", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg
