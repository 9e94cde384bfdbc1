"""A video or a camera, watched with a question: every frame with its mask drawn over it and the rate written in."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import takewhile
from pathlib import Path
from time import perf_counter

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .errors import UserError
from .files import check_writable
from .inputs.ahead import ahead
from .inputs.video import CAMERA, Frame, open_video
from .outputs.formats import draw_classes
from .outputs.overlay import ACCENT, HALO
from .outputs.video import Write, write_video
from .question import Question
from .segmenter import Segmenter

RECENT = 30
"""Frames over which the rate is taken."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Footage:
    """What was watched.

    Attributes:
        out: the overlay video.
        frames: how many were answered.
        seconds: how long that took, reading and writing included.
        share: mean share of a frame that is not background, 0 to 1.
        stated: how many frames the file said it has, or None; more than came where it was cut off.
    """

    out: Path
    frames: int
    seconds: float
    share: float
    stated: int | None = None

    @property
    def rate(self) -> float:
        """Frames per second."""
        return self.frames / self.seconds


def segment_video(
    segmenter: Segmenter,
    source: Path | str,
    question: Question,
    out: Path | str,
    *,
    overwrite: bool = False,
    seconds: float | None = None,
    progress: Progress | None = None,
) -> Footage:
    """Write an overlay video (MP4) of a video file or of `camera:0`; sound is left out.

    Of a file every frame is answered, at its own time. Of a camera the frames that come while the model is busy are
    dropped, so that the picture is of now; it runs for `seconds`, or until Ctrl-C, which ends it well. `progress(done,
    total)` follows; total is 0 where nobody knows it.

    Raises:
        UserError: the source cannot be read, `seconds` is not above 0, or `out` exists without `overwrite`, is no MP4
            or cannot be written.
    """
    out = Path(out)
    if seconds is not None and not seconds > 0:
        raise UserError(f"--seconds {seconds:g}: expected how long to watch, above 0")
    if out.resolve() == Path(source).resolve():
        raise UserError(f"{out} would replace the video itself: choose another --out")
    if out.exists() and not overwrite:
        raise UserError(f"{out} exists already: choose another --out, or pass --overwrite")
    check_writable(out)
    with open_video(source) as video, write_video(out, video.rate) as write:
        frames = _within(video.frames, seconds)
        live = video.name.startswith(CAMERA)
        with closing(ahead(frames, latest=live)) as coming:
            watch = _Watch(segmenter, question, write, video.count or 0, progress)
            # Ctrl-C is how one turns a camera off; of a file it leaves nothing.
            with suppress(KeyboardInterrupt) if live else nullcontext():
                watch.run(coming)
    return Footage(out, len(watch.shares), watch.seconds, float(np.mean(watch.shares)), video.count)


def draw_rate(image: np.ndarray, rate: float) -> np.ndarray:
    """Return a picture, uint8 (H, W, 3), with frames per second written into its upper left corner."""
    picture = Image.fromarray(image)
    size = max(10, image.shape[0] // 24)
    words, font = f"{rate:.1f} fps", ImageFont.load_default(size)
    ImageDraw.Draw(picture).text((size // 2, size // 2), words, ACCENT, font, stroke_width=2, stroke_fill=HALO)
    return np.asarray(picture)


class _Watch:
    """Answers about each frame and writes it.

    Attributes:
        shares: of each frame, what is not background, 0 to 1.
    """

    def __init__(
        self, segmenter: Segmenter, question: Question, write: Write, total: int, progress: Progress | None = None
    ):
        self._segmenter, self._question, self._write = segmenter, question, write
        self._total, self._progress = total, progress
        self.shares: list[float] = []
        self._begun = perf_counter()
        self._ticks = deque([self._begun], RECENT + 1)

    @property
    def seconds(self) -> float:
        """From the beginning to the last frame that was answered."""
        return self._ticks[-1] - self._begun

    def run(self, frames: Iterable[Frame]) -> None:
        """Go through the frames."""
        first = None
        for frame in frames:
            first = frame.time if first is None else first
            labels = self._question.ask(self._segmenter, frame.pixels)
            self._ticks.append(perf_counter())
            rate = (len(self._ticks) - 1) / (self._ticks[-1] - self._ticks[0])
            self._write(draw_rate(draw_classes(frame.pixels, labels), rate), frame.time - first)
            self.shares.append(float(np.count_nonzero(labels) / labels.size))
            if self._progress:
                self._progress(len(self.shares), self._total)


def _within(frames: Iterator[Frame], seconds: float | None) -> Iterator[Frame]:
    """Yield frames until the source's own clock has run for `seconds`."""
    if seconds is None:
        return frames
    start: list[Fraction] = []

    def early(frame: Frame) -> bool:
        start.append(frame.time)
        return frame.time - start[0] < seconds

    return takewhile(early, frames)
