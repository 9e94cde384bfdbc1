"""The commands of a device: what it can do, and engines for it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Json
from .speak import progress, say, show, table


def build(
    bundle: Annotated[Path, typer.Argument(help="A bundle; engines are written to engines/ in it.")],
    batch: Annotated[list[int] | None, typer.Option(help="Batch size; repeat for more. Default: 1.")] = None,
    plugins: Annotated[str, typer.Option(help="Our kernels inside: measure (keep the faster), on or off.")] = "measure",
    workspace: Annotated[
        int | None, typer.Option(help="Scratch memory of a tactic, MiB; default: sized to the device.")
    ] = None,
    level: Annotated[
        int | None, typer.Option(help="Effort, 0 (fast build) to 5 (fast engine); default: sized to the device.")
    ] = None,
    again: Annotated[bool, typer.Option(help="Build engines that are there and fresh, too.")] = False,
    as_json: Json = False,
) -> None:
    """Build TensorRT engines of a bundle, on the device that they will run on, and prove each before it is kept.

    Example: vlseg build polyps.bundle --batch 1 --batch 8
    """
    from ..deploy.tensorrt.build import Options
    from ..deploy.tensorrt.build import build as make

    options = Options(tuple(batch or (1,)), plugins, workspace, level, again=again)  # type: ignore[arg-type]  # checked
    report = make(bundle, options, say=say, tell=progress("step"))
    rows = [_row(row) for row in report["engines"]]
    columns = ("part", "batch", "built", "ms", "kernels", "off by", "seconds", "bytes")
    head = f"{report['device']['name']} (sm_{report['device']['capability']}), TensorRT {report['tensorrt']}"
    show(report, as_json, f"{head}\n{table(rows, *columns)}")


def doctor(as_json: Json = False) -> None:
    """Say what this machine can do, which known faults apply, and the command that mends each.

    Example: vlseg doctor --json
    """
    from ..deploy.doctor import doctor as examine

    report = examine()
    facts = [f"{key}: {_told(value)}" for key, value in report.items() if key != "faults"]
    faults = [f"fault: {fault['what']}\n  mend: {fault['fix']}" for fault in report["faults"]]
    show(report, as_json, "\n".join(facts + faults))


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """Return one engine's row as the table shows it."""
    built, off = "now" if row["built"] else "before", f"{row['parity']['deviation']:.1e}"
    return {**row, "built": built, "kernels": _kernels(row), "off by": off}


def _kernels(row: dict[str, Any]) -> str:
    """Return what was found of our kernels in an engine, as short as a table asks for."""
    found = row["plugins"]
    if "ratio" in found:
        return f"{found['kept']} ({found['ratio']:.2f}x the time)"
    return "on" if row["plugin"] else "off"


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_told(one)}" for key, one in value.items()) or "-"
    if isinstance(value, list):
        return "; ".join(_told(one) for one in value) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value in (None, "") else str(value)


COMMANDS = (build, doctor)
