"""The page: five tabs on the bundles that it was given. Nothing on it comes from another machine."""

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ..deploy.engine import AUTO
from ..deploy.errors import UserError
from .examples import write_examples
from .files import MAX_BYTES
from .models import Models
from .readings import model_html

try:
    import gradio as gr
except ModuleNotFoundError as error:
    raise UserError('the page needs gradio, which is not installed: pip install "vlseg[demo]"') from error

from starlette.middleware import Middleware

from . import api
from .guard import Guard, stay_home
from .hosts import own_names
from .naming import naming
from .session import Session
from .shared import QUIET, Shared, join
from .shipped import shipped
from .style import CSS, theme
from .tabs import adapters, ask, latency, segment, stream

TITLE = "# vlseg\n\nName what you are looking for; the model marks it. Everything runs on this machine."
NOTE = (
    "Research software, **not a medical device**: not for diagnosis or treatment. "
    "Pictures stay on the machine that serves this page and are removed within the hour."
)
FORGET_S, LOOK_S = 1800, 300
"""Uploads and sessions older than this go, and how often it is looked for them, seconds."""


@dataclass(frozen=True)
class Place:
    """Where a page is served.

    Attributes:
        host: address to listen on.
        port: port to listen on.
        login: name and password that are asked for; None: nobody is asked.
        certificate: files of a certificate and its key, for https; browsers give a camera to https and localhost alone.
        names: of proxies, or in DNS, by which it is asked too, beside addresses, localhost and this machine's name.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    login: tuple[str, str] | None = None
    certificate: tuple[Path, Path] | None = None
    names: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http{'s' if self.certificate else ''}://{self.host}:{self.port}"


def launch(
    bundles: Sequence[Path] = (), place: Place | None = None, engine: str = AUTO, threads: int | None = None
) -> None:
    """Serve the page until interrupted; uploads live in a folder of its own, which goes when it ends.

    Without bundles the page shows those that come with the package.

    Raises:
        UserError: no such bundle, or the port is taken.
    """
    place = place or Place()
    # a service is stopped by SIGTERM, and uploads are to go then too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with TemporaryDirectory(prefix="vlseg-demo-") as scratch:
        models = Models(bundles or shipped(Path(scratch)), engine, threads)
        page = start(models, Path(scratch), place)
        open_to_all = "" if place.login or place.host in ("127.0.0.1", "localhost") else ", open to the whole network"
        print(f"vlseg demo on {place.url}{open_to_all}, Ctrl+C ends it", file=sys.stderr, flush=True)
        page.block_thread()
        models.close()


def start(models: Models, scratch: Path, place: Place) -> gr.Blocks:
    """Build the page and serve it from threads of its own until its `close`; its files live in `scratch`.

    Raises:
        UserError: the port is taken, or the host is not this machine's.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(scratch / "uploads")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    stay_home()
    page = build(models, scratch)
    certificate, key = place.certificate or (None, None)
    try:
        page.launch(
            server_name=place.host, server_port=place.port, auth=place.login, share=False, inbrowser=False,
            ssl_certfile=certificate and str(certificate), ssl_keyfile=key and str(key), ssl_verify=False,
            ssr_mode=False, mcp_server=False, prevent_thread_lock=True, theme=theme(), css=CSS, footer_links=["api"],
            max_file_size=MAX_BYTES, show_error=True, quiet=True,
            app_kwargs={"middleware": [Middleware(Guard, names=own_names(place.host), more=place.names)]},
        )  # fmt: skip
    except OSError as error:
        raise UserError(f"cannot serve {place.url} ({error}): choose another with --port or --host") from error
    return page


def build(models: Models, scratch: Path) -> gr.Blocks:
    """Return the page, not yet served. `scratch` receives the drawn examples."""
    examples = write_examples(scratch)
    with gr.Blocks(title="vlseg", analytics_enabled=False, fill_width=True, delete_cache=(LOOK_S, FORGET_S)) as page:
        with gr.Row(elem_id="head"):
            gr.Markdown(TITLE, elem_id="title")
            bundle = _bundles(models)
        shared = Shared(models, gr.State(Session(), time_to_live=FORGET_S), bundle, examples)
        _tabs(shared)
        gr.Markdown(NOTE, elem_id="note")
        api.build(models)
        page.load(js=naming(examples))
    return page


def _bundles(models: Models) -> gr.Dropdown:
    """Lay out the choice of a bundle and a line on the chosen one."""
    with gr.Column(elem_id="model", min_width=280):
        chosen = gr.Dropdown(models.names, value=models.names[0], label="Bundle", elem_id="bundle")
        about = gr.HTML(model_html(models.manifests[models.names[0]]))
    chosen.change(lambda name: model_html(models.manifests[name]), chosen, about, queue=False, **QUIET)
    return chosen


def _tabs(shared: Shared) -> None:
    with gr.Tabs(elem_id="tabs"):
        with gr.Tab("Segment"):
            at_once = segment.build(shared)
        with gr.Tab("Ask the model"):
            ask.build(shared)
        with gr.Tab("Adapters"):
            adapters.build(shared)
        with gr.Tab("Latency") as tab:
            latency.build(shared, tab)
        with gr.Tab("Stream"):
            stream.build(shared)
    # an example of the first tab is one click from its answer; elsewhere it waits for the button
    at_once(join(shared)[0])
