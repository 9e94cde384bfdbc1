"""The command that measures speed."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from ..deploy.errors import UserError
from .options import Adapter, Json, Threads
from .speak import progress, say, show, table

PARTS = ("image", "text", "decoder")
TORCH = ("torch", "torch-compile", "aotinductor")
COLUMNS = ("bundle", "adapter", "engine", "stage", "batch", "p50_ms", "p90_ms", "p99_ms", "cv", "images_per_s")
COLUMNS += ("peak_rss_mib",)


def bench(
    models: Annotated[list[Path], typer.Argument(help="Bundles to time, interleaved; runs too, as torch yardsticks.")],
    engine: Annotated[list[str] | None, typer.Option(help="Engine, or auto; repeat for more.")] = None,
    batch: Annotated[list[int] | None, typer.Option(help="Batch size of the engine alone; repeat for more.")] = None,
    repeats: Annotated[int, typer.Option(help="Timed rounds.")] = 50,
    warmup: Annotated[int, typer.Option(help="Least rounds of warm-up, which goes on until times are steady.")] = 5,
    prompt: Annotated[str | None, typer.Option(help="Sentence to ask.")] = None,
    image: Annotated[Path | None, typer.Option(help="Image to time on; default: a drawn one.")] = None,
    against: Annotated[str | None, typer.Option(help="Bundle, or bundle:engine, that ratios are to.")] = None,
    adapter: Adapter = None,
    data: Annotated[Path | None, typer.Option(help="Labelled images: accuracy of the same engine in its rows.")] = None,
    split: Annotated[str, typer.Option(help="Split of --data.")] = "test",
    prompt_key: Annotated[str, typer.Option(help="Prompt key of --data.")] = "p1",
    duration: Annotated[float, typer.Option(help="Seconds of sustained load for each subject, throttling told.")] = 0,
    profile: Annotated[bool, typer.Option("--profile", help="Where the time goes, part by part.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Print how each row was measured.")] = False,
    cold: Annotated[bool, typer.Option("--cold/--no-cold", help="Load once in a fresh process: time, memory.")] = True,
    threads: Threads = None,
    csv: Annotated[Path | None, typer.Option(help="Append the rows, with their circumstances, to this CSV.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write everything as one page.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the drawing alone, as SVG.")] = None,
    trtexec_json: Annotated[Path | None, typer.Option(help="Write the engine's runs as trtexec's times.")] = None,
    as_json: Json = False,
) -> None:
    """Time bundles: engine alone and file to mask apart, percentiles, throughput, memory, power, ratios.

    Example: vlseg bench adapted.bundle frozen.bundle --against frozen.bundle --batch 1 --batch 4 --explain
    """
    from ..deploy.annotations import read_samples
    from ..deploy.bench.plan import PROMPT, Plan
    from ..deploy.bench.run import Extras
    from ..deploy.bench.run import bench as measure
    from ..deploy.files import check_writable

    for path in (csv, html, plot, trtexec_json):
        if path:
            check_writable(path)
    plan = Plan(repeats, warmup, tuple(batch or [1]), prompt or PROMPT)
    samples = read_samples(data, split, None) if data else []
    runs = [path for path in models if (path / "run.json").is_file()]
    bundles = [path for path in models if path not in runs]
    named = engine or ["auto"]
    _check_names(named, runs, bundles)
    with ExitStack() as undo:
        report = measure(
            bundles,
            [name for name in named if name not in TORCH] or (["auto"] if bundles else []),
            plan,
            yardsticks=_yardsticks(runs, named, threads, undo),
            threads=threads,
            image=image,
            against=against,
            adapter=adapter,
            extras=Extras(cold, duration, profile, samples, prompt_key),
            progress=progress("round"),
        )
    _write(report, plan, csv, html, plot, trtexec_json)
    protocol = _protocol(report, plan) if explain else []
    show({**report, **({"protocol": protocol} if explain else {})}, as_json, "\n".join([*_lines(report), *protocol]))


def _check_names(named: list[str], runs: list[Path], bundles: list[Path]) -> None:
    """Refuse an engine that nothing named here can run on."""
    torch = [name for name in named if name in TORCH]
    if torch and not runs:
        raise UserError(f"--engine {torch[0]} runs a run, and {', '.join(map(str, bundles))} is none: name a run too")


def _yardsticks(runs: list[Path], named: list[str], threads: int | None, undo: ExitStack) -> list[Any]:
    """Open every run in torch, in each way that was named, or eager; `undo` closes them."""
    if not runs:
        return []
    from ..deploy.bench.plan import Subject
    from ..train.engine import open_run

    ways = [name for name in named if name in TORCH] or ["torch"]
    opened = [(run.resolve().name, open_run(run, threads, way)) for run in runs for way in ways]
    return [Subject(name, undo.enter_context(one)) for name, one in opened]


def _write(
    report: dict[str, Any], plan: Any, csv: Path | None, html: Path | None, plot: Path | None, times: Path | None
) -> None:
    from ..deploy.bench.draw import draw
    from ..deploy.bench.figures import sustained_rows
    from ..deploy.bench.page import page
    from ..deploy.bench.trtexec import exported
    from ..deploy.files import atomic_write
    from ..deploy.rows import append_row

    if csv:
        for row in [*report["rows"], *sustained_rows(report)]:
            append_row(csv, {**row, **_state(report["device"])})
    for path, text in (
        (html, lambda: page(report, plan)),
        (plot, lambda: draw(report["rows"])),
        (times, lambda: exported(report["trtexec"])),
    ):
        if path:
            atomic_write(path, text())
            say(f"wrote {path}")


def _state(device: dict[str, Any]) -> dict[str, Any]:
    """Return what a CSV row says of the device beside the usual circumstances."""
    gpu = device["gpus"][0] if device["gpus"] else {"name": "", "driver": ""}
    state = {key: device["state"][key] for key in ("cpu_mhz", "governor", "power_mode", "gpu_mhz", "load")}
    return {"gpu": gpu["name"], "driver": gpu["driver"], **state, "threads": device["threads"] or ""}


def _lines(report: dict[str, Any]) -> list[str]:
    """Return the report as text."""
    shown = COLUMNS if any(row["adapter"] for row in report["rows"]) else [one for one in COLUMNS if one != "adapter"]
    lines = [table(report["rows"], *shown)]
    lines += [f"{row['bundle']} on {row['engine']}, batch {row['batch']}: {row['why']}" for row in report["skipped"]]
    lines += [_ratio(row) for row in report["ratios"] if row["stage"] not in PARTS]
    lines += [f"{_who(row)}: file to mask over the engine alone {_interval(row)}" for row in report["overheads"]]
    if report["profile"]:
        lines.append(
            table([{**row, "share": f"{row['share']:.1%}"} for row in report["profile"]], *report["profile"][0])
        )
    for one in report["sustained"]:
        load = f"{_who(one)}, {one['seconds']:.0f} s, p50 {one['p50_ms']:.2f} ms of {one['runs']} runs"
        lines += [f"{load}: {flag}" for flag in one["flags"] or ["steady"]]
    if unsteady := [row for row in report["rows"] if row["steady"] is False]:
        where = ", ".join(dict.fromkeys(f"{row['stage']} at batch {row['batch']}" for row in unsteady))
        lines.append(f"NOT steady after {unsteady[0]['warmup']} rounds, so something else runs here: {where}")
    return lines


def _protocol(report: dict[str, Any], plan: Any) -> list[str]:
    from ..deploy.bench.explain import explain

    return [explain(row, report, plan) for row in report["rows"]]


def _ratio(row: dict[str, Any]) -> str:
    other = f"{row['against']} on {row['against_engine']}"
    return f"{_who(row)} / {other}, {row['stage']}, batch {row['batch']}: {_interval(row)}"


def _interval(row: dict[str, Any]) -> str:
    return f"{row['median']:.3f} ({row['low']:.3f} to {row['high']:.3f})"


def _who(row: dict[str, Any]) -> str:
    return f"{row['bundle']} on {row['engine']}"


COMMANDS = (bench,)
