"""Stream: a camera or a video, the mask drawn over it in real time; what cannot be kept up with is dropped and told."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic, perf_counter, sleep
from typing import Any

import gradio as gr
import numpy as np

from ...deploy.errors import UserError
from ...deploy.inputs.video import SUFFIXES, open_video
from ..frames import Pace, frame_html
from ..models import Models
from ..overlay import draw_mask
from ..shared import HEIGHT, Shared
from ..spoken import spoken

EVERY_S = 0.1
"""How often a browser's camera sends a frame, seconds."""
LIMIT_S = 600
CAMERA = "camera:0"
HINT = '<p class="hint empty">Say what to find, then start a camera or open a video. Frames are not kept anywhere.</p>'
# a cancelled event begins anew with the next frame, so the browser must stop sending them
SWITCH_OFF = """() => {
    if (document.querySelector("#camera .streaming-bar")) document.querySelector("#camera .capture-button").click()
}"""
Shown = tuple[str, str]


@dataclass
class Watch:
    """One user's camera: its pace, and when its first frame came."""

    pace: Pace = field(default_factory=Pace)
    began: float | None = None

    def count(self, now: float) -> None:
        """Note what should have come by now and did not: the browser drops frames while one is under way."""
        self.began = now if self.began is None else self.began
        due = int((now - self.began) / EVERY_S) + 1
        self.pace.drop(max(0, due - self.pace.shown - self.pace.dropped - 1))


def build(shared: Shared) -> None:
    """Lay out the tab and join its controls."""
    models = shared.models
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            prompt = gr.Textbox("one round polyp", label="Prompt", elem_id="stream-prompt", max_lines=2)
            with gr.Row():
                video = gr.UploadButton("Video file", size="md", file_types=sorted(SUFFIXES), elem_id="video")
                local = gr.Button("Camera of the serving machine", visible=Path("/dev/video0").exists())
                stop = gr.Button("Stop", size="md", elem_id="stop-stream")
            camera = gr.Image(
                sources=["webcam"], streaming=True, type="numpy", label="Camera of this browser", height=HEIGHT - 120,
                elem_id="camera",
            )  # fmt: skip
            gr.HTML('<p class="hint">Browsers give a camera to https and to localhost alone (see --certificate).</p>')
        with gr.Column(scale=6, min_width=320):
            shown, pace = gr.HTML(HINT, elem_id="frames"), gr.HTML(elem_id="pace")
    watch = gr.State(None)
    watching = camera.stream(
        spoken(partial(one, models)),
        [watch, camera, prompt, shared.bundle],
        [watch, shown, pace],
        api_visibility="private",
        show_progress="hidden",
        stream_every=EVERY_S,
        time_limit=LIMIT_S,
        concurrency_limit=4,
    )
    playing: dict[str, Any] = {
        "outputs": [shown, pace],
        "api_visibility": "private",
        "show_progress": "hidden",
        "concurrency_limit": 2,
    }
    played = video.upload(spoken(partial(play, models)), [video, prompt, shared.bundle], **playing)
    seen = local.click(spoken(lambda *given: play(models, CAMERA, *given)), [prompt, shared.bundle], **playing)
    stop.click(None, cancels=[watching, played, seen])
    stop.click(None, js=SWITCH_OFF)


def one(
    models: Models, watch: Watch | None, frame: np.ndarray | None, prompt: str, bundle: str
) -> tuple[Watch, Any, Any]:
    """Answer one frame of a browser's camera, uint8 (H, W, 3).

    Raises:
        UserError: an empty prompt, or what running raises.
    """
    now = monotonic()
    if watch is None or frame is None or (watch.began is not None and now - watch.began > LIMIT_S):
        watch = Watch()
    if frame is None:
        return watch, gr.skip(), gr.skip()
    watch.count(now)
    picture, work = answer(models, bundle, frame, prompt)
    watch.pace.show(work)
    return watch, picture, watch.pace.html(1 / EVERY_S, models.engine)


def play(models: Models, source: str, prompt: str, bundle: str) -> Iterator[Shown]:
    """Yield the frames of a video or a camera as they are due; one that is due already when its turn comes is dropped.

    Raises:
        UserError: an empty prompt, no video, or what running raises.
    """
    pace, start = Pace(), None
    with open_video(source) as video:
        rate = float(video.rate)
        for frame in video.frames:
            due = float(frame.time)
            start = monotonic() - due if start is None else start
            late = monotonic() - start - due
            if late > 1 / rate:
                pace.drop()
                continue
            sleep(max(0.0, -late))
            picture, work = answer(models, bundle, frame.pixels, prompt)
            pace.show(work)
            yield picture, pace.html(rate, models.engine)
    if not pace.shown:
        raise UserError(f"{Path(source).name} has no frame that could be shown: save it again")


def answer(models: Models, bundle: str, frame: np.ndarray, prompt: str) -> tuple[str, float]:
    """Return a frame with its mask as HTML, and the milliseconds of the answer; nothing of the frame is kept."""
    if not prompt.strip():
        raise UserError("the prompt is empty: say what to find before the camera starts")
    start = perf_counter()
    ask = [prompt.strip()]
    (result,) = models.using(bundle, lambda segmenter: segmenter.run_batch([frame], ask, remember=False))
    work = (perf_counter() - start) * 1000
    return frame_html(draw_mask(frame, result.mask)), work
