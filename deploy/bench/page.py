"""A report as one HTML page that needs nothing else: the drawing, the tables, the device, and how it was measured."""

from collections.abc import Sequence
from html import escape
from typing import Any

from .draw import draw
from .explain import explain
from .plan import Plan

STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 sans-serif; }
body { max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
td, th { padding: 0.2rem 0.7rem; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap; }
td:first-child, th:first-child { text-align: left; }
pre { white-space: pre-wrap; font-size: 13px; }
"""
ROWS = (
    *("bundle", "adapter", "engine", "precision", "stage", "batch", "p50_ms", "p90_ms", "p99_ms", "mean_ms", "cv"),
    *("images_per_s", "peak_rss_mib", "peak_gpu_mib", "h2d_ms", "enqueue_ms", "compute_ms", "d2h_ms"),
    *("watts", "mj_per_image", "load_ms", "first_mask_ms", "dice", "steady"),
)


def page(report: dict[str, Any], plan: Plan) -> str:
    """Return the page of a report."""
    sections = [
        ("Latency", draw(report["rows"]) + table(report["rows"], ROWS)),
        ("Ratios", table(report["ratios"])),
        ("File to mask over the engine alone", table(report["overheads"])),
        ("Where the time goes", table(report["profile"])),
        ("Not measured", table(report["skipped"])),
        *((f"Sustained: {one['bundle']} on {one['engine']}", _sustained(one)) for one in report["sustained"]),
        ("Device", table([_flat(report["device"])])),
        ("How it was measured", _protocol(report, plan)),
    ]
    body = "\n".join(f"<h2>{escape(title)}</h2>\n{text}" for title, text in sections if text)
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>vlseg bench</title>'
        f"<style>{STYLE}</style>\n<h1>vlseg bench</h1>\n{body}\n</html>\n"
    )


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str] = ()) -> str:
    """Return rows as an HTML table, without columns that nobody filled; empty where there are no rows."""
    if not rows:
        return ""
    names = [name for name in columns or rows[0] if any(row[name] is not None for row in rows)]
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "\n".join("<tr>" + "".join(f"<td>{_cell(row[name])}</td>" for name in names) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>\n{body}</table>"


def _sustained(one: dict[str, Any]) -> str:
    flags = "".join(f"<li>{escape(flag)}</li>" for flag in one["flags"]) or "<li>nothing changed while it ran</li>"
    return f"<ul>{flags}</ul>{table(one['buckets'])}"


def _protocol(report: dict[str, Any], plan: Plan) -> str:
    return f"<pre>{escape(chr(10).join(explain(row, report, plan) for row in report['rows']))}</pre>"


def _flat(device: dict[str, Any]) -> dict[str, Any]:
    """Return the device's facts with what nests written as text."""
    plain = {key: value for key, value in device.items() if key not in ("state", "packages", "gpus")}
    packages = " ".join(f"{name}={version}" for name, version in device["packages"].items())
    gpus = "; ".join(f"{gpu['name']} (driver {gpu['driver']})" for gpu in device["gpus"]) or None
    return {**plain, **device["state"], "gpus": gpus, "packages": packages}


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else escape(str(value))
