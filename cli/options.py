"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON alone on stdout.")]
Data = Annotated[Path, typer.Option("--data", help="Folder with images/, masks/ and anns/{train,val,test}.json.")]
Prompt = Annotated[str, typer.Option(help="Prompt key of the annotations (p0, p1, ... or random).")]
Sentence = Annotated[str | None, typer.Option(help="One prompt for a plain folder of images/ and masks/.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads of the engine; default: all cores.")]
EngineName = Annotated[str, typer.Option(help="Which engine runs the bundle; auto picks by what is installed.")]
Adapter = Annotated[str | None, typer.Option(help="Which adapter of a bundle that has several; default: its first.")]
