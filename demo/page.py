"""The page: a picture and a sentence in, the mask drawn over the picture. Nothing on it comes from another machine."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..deploy.engine import AUTO
from ..deploy.errors import UserError
from ..deploy.pixels import read_image, to_mask
from .examples import write_examples
from .models import Models
from .overlay import measure, overlay
from .readings import area_html, latency_html, model_html

try:
    import gradio as gr
except ModuleNotFoundError as error:
    raise UserError('the page needs gradio, which is not installed: pip install "vlseg[demo]"') from error

from .picture import picture_input
from .style import CSS, theme

TITLE = "# vlseg\n\nName what you are looking for in a sentence; the model marks it. Everything runs on this machine."
NOTE = (
    "Research software, **not a medical device**: not for diagnosis or treatment. "
    "Pictures stay on this machine and are removed within the hour."
)
OPACITY = 0.35
HEIGHT = 400
UPLOAD_LIMIT = "64mb"


@dataclass(frozen=True)
class Answer:
    """What one user's last question gave: sliders act on it without asking the model again."""

    image: np.ndarray
    probability: np.ndarray


def launch(
    bundles: Sequence[Path], host: str = "127.0.0.1", port: int = 7860, engine: str = AUTO, threads: int | None = None
) -> None:
    """Serve the page until interrupted; uploads live in a folder of its own, which goes when it ends.

    Raises:
        UserError: no such bundle, or the port is taken.
    """
    models = Models(bundles, engine, threads)
    with TemporaryDirectory(prefix="vlseg-demo-") as scratch:
        page = start(models, Path(scratch), host, port)
        print(f"vlseg demo on http://{host}:{port}, Ctrl+C ends it", file=sys.stderr, flush=True)
        page.block_thread()
    models.close()


def start(models: Models, scratch: Path, host: str, port: int) -> gr.Blocks:
    """Build the page and serve it from threads of its own until its `close`; its files live in `scratch`.

    Raises:
        UserError: the port is taken, or the host is not this machine's.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(scratch)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    page = build(models, scratch)
    try:
        page.launch(
            server_name=host, server_port=port, share=False, inbrowser=False, ssr_mode=False, mcp_server=False,
            prevent_thread_lock=True, theme=theme(), css=CSS, footer_links=[],
            max_file_size=UPLOAD_LIMIT, show_error=True, quiet=True,
        )  # fmt: skip
    except OSError as error:
        raise UserError(f"cannot listen on {host}:{port} ({error}): choose another with --port or --host") from error
    return page


def build(models: Models, scratch: Path) -> gr.Blocks:
    """Return the page, not yet served. `scratch` receives the drawn examples."""
    with gr.Blocks(title="vlseg", analytics_enabled=False, fill_width=True, delete_cache=(300, 1800)) as page:
        gr.Markdown(TITLE, elem_id="title")
        with gr.Row(elem_id="model"):
            bundle, about = _bundles(models)
        with gr.Row(equal_height=False):
            with gr.Column():
                asked = _question(models, scratch)
            with gr.Column():
                levels, shown = _answer(models)
        gr.Markdown(NOTE, elem_id="note")
        _wire(models, bundle, about, asked, levels, shown)
    return page


def _bundles(models: Models) -> tuple[gr.Dropdown, gr.HTML]:
    names = models.names
    chosen = gr.Dropdown(names, value=names[0], label="Bundle", visible=len(names) > 1)
    return chosen, gr.HTML(model_html(models.manifests[names[0]]))


def _question(models: Models, scratch: Path) -> tuple[gr.Image, gr.Textbox, gr.Button]:
    """Lay out what goes in: picture, prompt, button, examples."""
    sources = ["upload", "clipboard", "webcam"]
    image = picture_input(elem_id="picture", label="Picture", sources=sources, height=HEIGHT)
    known = models.manifests[models.names[0]].fixed_prompts
    prompt = gr.Textbox(elem_id="prompt", label="Prompt", placeholder=_placeholder(known), max_lines=3)
    ask = gr.Button("Segment", variant="primary")
    _examples(write_examples(scratch), image, prompt)
    return image, prompt, ask


def _examples(examples: list[tuple[Path, str]], image: gr.Image, prompt: gr.Textbox) -> None:
    """Lay out a row of pictures; picking one fills in its prompt too."""
    samples = [[str(path)] for path, _ in examples]
    # the input itself as the component: gradio then keeps these files when it removes uploads
    row = gr.Dataset(label="Drawn examples", components=[image], samples=samples, type="index", layout="gallery")
    row.click(
        lambda index: (str(examples[index][0]), examples[index][1]),
        row,
        [image, prompt],
        show_progress="hidden",
        api_visibility="private",
    )


def _answer(models: Models) -> tuple[list[gr.Slider], tuple[gr.Image, gr.HTML, gr.HTML]]:
    """Lay out what comes back: the overlay and its two sliders, then the readings of area and time."""
    overlaid = gr.Image(
        elem_id="mask",
        label="Mask",
        format="png",
        height=HEIGHT,
        interactive=False,
        buttons=["download", "fullscreen"],
    )
    start = models.manifests[models.names[0]].threshold
    threshold = gr.Slider(0, 1, start, step=0.01, label="Threshold", info="probability that counts")
    opacity = gr.Slider(0, 1, OPACITY, step=0.05, label="Opacity", info="of the veil; the contour stays")
    with gr.Row(elem_id="readings"):
        area, time = gr.HTML(label="Area", elem_id="area"), gr.HTML(label="Time", elem_id="time")
    return [threshold, opacity], (overlaid, area, time)


def _wire(
    models: Models,
    bundle: gr.Dropdown,
    about: gr.HTML,
    asked: tuple[gr.Image, gr.Textbox, gr.Button],
    levels: list[gr.Slider],
    shown: tuple[gr.Image, gr.HTML, gr.HTML],
) -> None:
    """Join the controls to the functions below. Only `segment` asks the model, one user at a time."""
    image, prompt, ask = asked
    overlaid, area, time = shown
    kept = gr.State(None, time_to_live=1800)
    gr.on(
        [ask.click, prompt.submit],
        _spoken(lambda *values: segment(models, *values)),
        [image, prompt, bundle, *levels],
        [kept, overlaid, area, time],
        api_name="segment",
        concurrency_limit=1,
    )
    for level in levels:
        level.input(
            redraw,
            [kept, *levels],
            [overlaid, area],
            queue=False,
            show_progress="hidden",
            trigger_mode="always_last",
            api_visibility="private",
        )
    bundle.input(lambda name: choose(models, name), bundle, [about, levels[0]], api_visibility="private")


def segment(
    models: Models, path: str | None, prompt: str, bundle: str, threshold: float, opacity: float
) -> tuple[Answer, np.ndarray, str, str]:
    """Ask the model: return what to keep for the sliders, the overlay (H, W, 3), and the readings of area and time.

    Raises:
        UserError: no picture, no prompt, or what reading and running raise.
    """
    if not path:
        raise UserError("there is no picture yet: upload, paste or photograph one, or pick a drawn example")
    if not prompt.strip():
        raise UserError('the prompt is empty: say what to find, such as "one small round polyp"')
    image = read_image(path)
    result = models.run(bundle, image, prompt.strip())
    answer = Answer(image, result.probability)
    return answer, *_drawn(answer, threshold, opacity), latency_html(result.timings, models.engine)


def redraw(answer: Answer | None, threshold: float, opacity: float) -> tuple[np.ndarray | None, str]:
    """Draw the kept answer at other levels: the overlay (H, W, 3) and the reading of the area. No inference."""
    if answer is None:
        return None, ""
    return _drawn(answer, threshold, opacity)


def _drawn(answer: Answer, threshold: float, opacity: float) -> tuple[np.ndarray, str]:
    area = measure(to_mask(answer.probability, threshold))
    return overlay(answer.image, answer.probability, threshold, opacity), area_html(area, threshold)


def choose(models: Models, name: str) -> tuple[str, float]:
    """Return what to show of a bundle that was picked, and the threshold it was given on validation."""
    manifest = models.manifests[name]
    return model_html(manifest), manifest.threshold


def _spoken(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a user's mistake appear as a message in the page instead of a stack trace."""

    @wraps(function)
    def speak(*values: Any) -> Any:
        try:
            return function(*values)
        except UserError as error:
            raise gr.Error(str(error), title="Please check", print_exception=False) from error

    return speak


def _placeholder(fixed_prompts: Sequence[str]) -> str:
    if fixed_prompts:
        return f"this bundle knows: {'; '.join(fixed_prompts)}"
    return "one small round polyp, located in left of the image"
