"""The command that opens the page."""

from pathlib import Path
from typing import Annotated

import typer

from .options import EngineName, Threads


def demo(
    bundles: Annotated[list[Path] | None, typer.Argument(help="Bundles to show; default: quickstart's.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 7860,
    engine: EngineName = "auto",
    threads: Threads = None,
) -> None:
    """Open a page to try a bundle: image, prompt, overlay, threshold, latency.

    Example: vlseg demo polyps.bundle --port 7860
    """
    from ..demo.page import launch

    launch(bundles or [Path("quickstart/bundle")], host=host, port=port, engine=engine, threads=threads)


COMMANDS = (demo,)
