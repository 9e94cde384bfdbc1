"""A benchmark as a picture: bars in SVG, the p50 filled, the p90 as a line behind it. Nothing is fetched for it."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

COLOURS = ("#0f766e", "#c2410c", "#6d28d9", "#0369a1", "#a16207", "#be185d")
STAGES = {
    "image": "image encoder",
    "text": "text encoder",
    "decoder": "decoder",
    "engine": "all parts",
    "first_prompt": "first prompt",
    "second_prompt_new": "new prompt, known picture",
    "second_prompt_known": "known prompt and picture",
    "end_to_end": "from file to mask",
}
BAR, GAP, LABEL, WIDTH, VALUE = 14, 12, 190, 760, 120


def plot(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of `deploy.bench` as an SVG: a group of bars for each stage, a bar for each bundle and engine."""
    subjects = list(dict.fromkeys(_subject(row) for row in rows))
    stages = [stage for stage in STAGES if any(row["stage"] == stage for row in rows)]
    longest = max(row["p90_ms"] for row in rows)
    parts, y = [_legend(subjects)], 24
    for stage in stages:
        own = [row for row in rows if row["stage"] == stage]
        parts.append(f'<text x="0" y="{y + BAR - 3}">{escape(STAGES[stage])}</text>')
        for row in own:
            parts.append(_bar(row, y, longest, COLOURS[subjects.index(_subject(row)) % len(COLOURS)]))
            y += BAR + 2
        y += GAP
    body = "".join(parts)
    return f'<svg class="plot" viewBox="0 0 {WIDTH} {y}" role="img" aria-label="milliseconds by stage">{body}</svg>'


def _subject(row: Mapping[str, Any]) -> str:
    return f"{row['bundle']} on {row['engine']}"


def _bar(row: Mapping[str, Any], y: int, longest: float, colour: str) -> str:
    scale = (WIDTH - LABEL - VALUE) / longest
    p50, p90 = row["p50_ms"], row["p90_ms"]
    middle = y + BAR / 2
    return (
        f'<line x1="{LABEL}" x2="{LABEL + p90 * scale:.1f}" y1="{middle}" y2="{middle}" stroke="{colour}"/>'
        f'<rect x="{LABEL}" y="{y}" width="{max(1.0, p50 * scale):.1f}" height="{BAR}" rx="2" fill="{colour}"/>'
        f'<text x="{LABEL + p90 * scale + 8:.1f}" y="{y + BAR - 3}">{p50:.2f} ms <tspan>p90 {p90:.2f}</tspan></text>'
    )


def _legend(subjects: Sequence[str]) -> str:
    marks, x = [], LABEL
    for i, subject in enumerate(subjects):
        marks.append(f'<rect x="{x}" y="2" width="10" height="10" rx="2" fill="{COLOURS[i % len(COLOURS)]}"/>')
        marks.append(f'<text x="{x + 16}" y="11">{escape(subject)}</text>')
        x += 34 + 7 * len(subject)
    return "".join(marks)
