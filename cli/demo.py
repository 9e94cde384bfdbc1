"""Commands of the page: open it, and let a bundle tell it what its adapters contribute."""

import os
from pathlib import Path
from typing import Annotated

import typer

from .options import EngineName, Json, Threads
from .speak import say, show

PASSWORD = "VLSEG_DEMO_PASSWORD"


def demo(
    bundles: Annotated[list[Path] | None, typer.Argument(help="Bundles to show; default: the package's own.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is the whole network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 7860,
    user: Annotated[
        str | None, typer.Option(help=f"Ask for this name and a password, that of ${PASSWORD} or typed now.")
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="Certificate for https (PEM), with --key.")] = None,
    key: Annotated[Path | None, typer.Option(help="The certificate's key (PEM).")] = None,
    names: Annotated[
        list[str] | None, typer.Option("--name", help="Name that the page is asked by too: of a proxy, or in DNS.")
    ] = None,
    engine: EngineName = "auto",
    threads: Threads = None,
) -> None:
    """Open a page to try bundles: masks, prompts side by side, adapters compared, latency, live video.

    Example: vlseg demo polyps.bundle --host 0.0.0.0 --user clinic
    """
    from ..demo.page import Place, launch
    from ..deploy.errors import UserError

    if (certificate is None) != (key is None):
        raise UserError("--certificate and --key come together: give both, or neither for http")
    pair = (certificate, key) if certificate and key else None
    for path in pair or ():
        if not path.is_file():
            raise UserError(f"there is no file {path}: give the PEM files of a certificate and its key")
    login = (user, os.environ.get(PASSWORD) or typer.prompt("Password", hide_input=True)) if user else None
    launch(bundles or [], Place(host, port, login, pair, tuple(names or ())), engine, threads)


def explain(
    run: Annotated[Path, typer.Argument(help="The run folder that the bundle was exported from.")],
    bundle: Annotated[Path, typer.Argument(help="The bundle; a file is added to it.")],
    as_json: Json = False,
) -> None:
    """Add to a bundle what its adapters contribute to each image token, for the demo's Adapters tab to show.

    Of `sam/lga`: where the words of a report look.

    Example: vlseg explain runs/polyps polyps.bundle
    """
    from ..export.explain import explain as add

    say("exporting the image part once more, with what it is to tell")
    told = add(run, bundle)
    show(told, as_json, f"{bundle} tells the {told['tells']} of {told['modules']} modules in {told['tokens']} tokens")


COMMANDS = (demo, explain)
