"""The command that walks the whole road."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Json
from .speak import say, show


def quickstart(
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("quickstart"),
    as_json: Json = False,
) -> None:
    """Walk the whole road offline on drawn images: adapt, compare, fold, export, prove parity, time, report.

    Example: vlseg quickstart --out quickstart
    """
    from ..quickstart import quickstart as walk

    report = walk(out, say=say)
    show(report, as_json, f"{out / 'report.html'}: Dice {report['dice_before']:.3f} -> {report['dice_after']:.3f}")


COMMANDS = (quickstart,)
