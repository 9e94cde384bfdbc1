"""The rows of a report as a drawing in SVG: one bar for each, p50 long, with a whisker to p99."""

from collections.abc import Sequence
from html import escape
from typing import Any

WIDTH, LABELS, FIGURES, LINE, BAR = 860, 300, 130, 22, 12
COLOURS = ("#2f6fb3", "#c2572b", "#3d8c5a", "#8556a8", "#b0882a", "#5b6b7a")


def draw(rows: Sequence[dict[str, Any]]) -> str:
    """Return the SVG text; bars share one scale, subjects have a colour each, stages follow each other."""
    subjects = list(dict.fromkeys(_subject(row) for row in rows))
    stages = list(dict.fromkeys((row["stage"], row["batch"]) for row in rows))
    longest = max(row["p99_ms"] for row in rows)
    parts, y = [], LINE * (len(subjects) + 1)
    for stage in stages:
        for row in (row for row in rows if (row["stage"], row["batch"]) == stage):
            parts.append(_bar(row, y, longest, COLOURS[subjects.index(_subject(row)) % len(COLOURS)]))
            y += LINE
        y += LINE // 2
    legend = [_key(name, i) for i, name in enumerate(subjects)]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" font-family="sans-serif" font-size="12" '
        'fill="currentColor" role="img" aria-label="Latency: p50 as bars, p99 as whiskers">'
    )
    return "\n".join([head, *legend, *parts, "</svg>"]) + "\n"


def _subject(row: dict[str, Any]) -> str:
    return f"{row['bundle']} on {row['engine']}"


def _key(name: str, i: int) -> str:
    y = LINE * i + 4
    square = f'<rect x="4" y="{y}" width="{BAR}" height="{BAR}" fill="{COLOURS[i % len(COLOURS)]}"/>'
    return f'{square}<text x="24" y="{y + 11}">{escape(name)}</text>'


def _bar(row: dict[str, Any], y: int, longest: float, colour: str) -> str:
    room = WIDTH - LABELS - FIGURES
    p50, p99 = (room * row[name] / longest for name in ("p50_ms", "p99_ms"))
    name = row["stage"].replace("_", " ") + (f", batch {row['batch']}" if row["batch"] > 1 else "")
    middle = y + BAR / 2
    return (
        f'<text x="{LABELS - 8}" y="{y + 11}" text-anchor="end">{escape(name)}</text>'
        f'<rect x="{LABELS}" y="{y}" width="{p50:.1f}" height="{BAR}" fill="{colour}"/>'
        f'<path d="M{LABELS + p50:.1f} {middle}H{LABELS + p99:.1f}M{LABELS + p99:.1f} {y + 2}V{y + BAR - 2}" '
        f'stroke="currentColor" fill="none"/>'
        f'<text x="{LABELS + p99 + 6:.1f}" y="{y + 11}">{row["p50_ms"]:.2f} ms</text>'
    )
