"""Latency: where the time of an answer goes, what the adapters cost, and what this machine is."""

import csv
import io
from collections.abc import Iterator, Mapping
from functools import cache, partial
from html import escape
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from ...deploy.bench.draw import draw
from ...deploy.bench.page import table
from ...deploy.bench.plan import Plan
from ...deploy.bench.run import Extras, bench
from ...deploy.doctor import doctor
from ...deploy.errors import UserError
from ..job import Job
from ..models import Models
from ..readings import bars_html
from ..session import Session
from ..shared import QUIET, Shared
from ..spoken import spoken

ROUNDS, WARMUP = 20, 5
HINT = (
    '<p class="hint">A benchmark times every ticked bundle on every ticked engine, round by round, '
    "so that whatever the machine does meanwhile falls on all of them.</p>"
)
ROWS = ("bundle", "engine", "stage", "p50_ms", "p90_ms", "p99_ms", "images_per_s", "watts", "mj_per_image", "steady")


def build(shared: Shared, tab: gr.Tab) -> None:
    """Lay out the tab and join its controls."""
    models, engines = shared.models, doctor()["engines"]
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            live = gr.HTML(elem_id="live")
            gr.HTML(machine_html(), elem_id="machine")
        with gr.Column(scale=7, min_width=320):
            with gr.Row():
                bundles = gr.CheckboxGroup(
                    models.names, value=models.names, label="Bundles; the first is what the others are held against"
                )
                chosen = gr.CheckboxGroup(engines, value=[models.engine], label="Engines on this machine")
            rounds = gr.Slider(5, 100, ROUNDS, step=5, label="Rounds", elem_id="rounds")
            with gr.Row():
                start = gr.Button("Benchmark", variant="primary", elem_id="bench")
                cancel = gr.Button("Cancel", elem_id="cancel-bench")
            results = gr.HTML(HINT, elem_id="bench-results")
            rows = gr.DownloadButton("Rows as CSV", size="sm", visible=False, elem_id="bench-rows")
    tab.select(lambda kept: live_html(models, kept), shared.kept, live, **QUIET)
    run = start.click(
        spoken(partial(benchmark, models)),
        [bundles, chosen, rounds],
        [results, rows],
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=1,
    )
    cancel.click(lambda: ("<p class='hint'>Cancelled.</p>", gr.skip()), None, [results, rows], cancels=run, **QUIET)


def benchmark(models: Models, bundles: list[str], engines: list[str], rounds: int) -> Iterator[tuple[Any, Any]]:
    """Yield progress, then the plot and rows, and a file of the rows.

    Raises:
        UserError: nothing ticked, or what `bench` raises.
    """
    if not bundles or not engines:
        raise UserError("there is nothing to time: tick at least one bundle and one engine")
    folders = [models.folders[name] for name in models.names if name in bundles]
    plan, extras = Plan(repeats=int(rounds), warmup=WARMUP, most=WARMUP), Extras(cold=False)
    job = Job(lambda step: bench(folders, engines, plan, threads=models.threads, extras=extras, progress=step))
    for done, total in job:
        yield progress_html(done, total), gr.skip()
    yield results_html(job.result), gr.DownloadButton(value=_csv(job.result["rows"]), visible=True)


def live_html(models: Models, kept: Session) -> str:
    """Return the times of the answers since the page began, for each bundle, and the last picture's reading time."""
    told = [_live(models, name, kept) for name in models.names if models.live.count(name)]
    return "<h3>Answers on this page</h3>" + ("".join(told) or '<p class="hint">None yet: ask something first.</p>')


def machine_html() -> str:
    """Return what this machine is, and what is known to be wrong with it."""
    facts = _machine()
    gpus = ", ".join(str(gpu["name"]) for gpu in facts["gpus"]) or "none"
    shown = {
        "processor": f"{facts['cpu']}, {facts['cores']} cores",
        "memory": f"{facts['memory_mib'] / 1024:.1f} GiB" if facts["memory_mib"] else "not told",
        "GPU": gpus,
        "engines": ", ".join(facts["engines"]),
        "ONNX Runtime": facts["onnxruntime"] or "absent",
        "TensorRT": facts["tensorrt"] or "absent",
        "TensorRT-RTX": facts["tensorrt_rtx"] or "absent",
        "system": facts["platform"],
    }
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in shown.items())
    faults = "".join(f"<li>{escape(one['what'])}: <code>{escape(one['fix'])}</code></li>" for one in facts["faults"])
    return f"<h3>This machine</h3><dl class='table'>{rows}</dl>" + (
        f"<ul class='faults'>{faults}</ul>" if faults else ""
    )


def progress_html(done: int, total: int) -> str:
    """Return how far a benchmark is."""
    words = f'<p class="hint">Timing, {done} of {total}</p>'
    return f'{words}<progress value="{done}" max="{total}" aria-label="benchmark"></progress>'


def results_html(result: Mapping[str, Any]) -> str:
    """Return plot, tax and rows of a benchmark."""
    rows = f"<details><summary>All rows</summary>{table(result['rows'], ROWS)}</details>"
    return _ratios(result["ratios"]) + draw(result["rows"]) + rows


@cache
def _machine() -> dict[str, Any]:
    return doctor()


def _live(models: Models, name: str, kept: Session) -> str:
    totals = models.live.totals(name)
    stages = {stage: figures["p50_ms"] for stage, figures in models.live.stages(name).items()}
    if kept.seen:
        stages = {"decode": kept.seen.decode_ms, **stages}
    words = f"p50 of {models.live.count(name)} answers of {escape(name)}, p90 {totals['p90_ms']:.1f} ms; p50 by stage:"
    return f'<div class="reading"><b>{totals["p50_ms"]:.1f} ms</b><span>{words}</span>{bars_html(stages)}</div>'


def _ratios(ratios: list[Mapping[str, Any]]) -> str:
    """Return each later bundle's time over the first one's, with its interval: of an adapter over its base, the tax."""
    shown = [ratio for ratio in ratios if ratio["stage"] in ("image", "first_prompt")]
    lines = "".join(
        f"<dt>{escape(ratio['bundle'])} on {escape(ratio['engine'])}, {ratio['stage'].replace('_', ' ')}</dt>"
        f"<dd><b>{ratio['median']:.3f}</b> ({ratio['low']:.3f} to {ratio['high']:.3f}, {ratio['pairs']} pairs)</dd>"
        for ratio in shown
    )
    if not lines:
        return ""
    against = f"{ratios[0]['against']} on {ratios[0]['against_engine']}"
    return f"<h3>Time over that of {escape(against)}</h3><dl class='table'>{lines}</dl>"


def _csv(rows: list[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return save_bytes_to_cache(text.getvalue().encode(), "vlseg-bench.csv", get_upload_folder())
