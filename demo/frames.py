"""Frames in real time: each is answered or dropped, and how many of each there were is told."""

import base64
import io
from collections import deque
from dataclasses import dataclass, field
from html import escape
from time import monotonic

import numpy as np
from PIL import Image

SHOWN = 640
KEPT = 40


@dataclass
class Pace:
    """Counts frames that were shown and dropped; the rate is that of the last two seconds."""

    shown: int = 0
    dropped: int = 0
    work_ms: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    _when: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))

    def show(self, work_ms: float, now: float | None = None) -> None:
        """Note a frame that was answered, and the milliseconds that took."""
        self.shown += 1
        self.work_ms.append(work_ms)
        self._when.append(monotonic() if now is None else now)

    def drop(self, count: int = 1) -> None:
        """Note frames that came while another was worked on."""
        self.dropped += count

    @property
    def rate(self) -> float:
        """Frames per second."""
        if len(self._when) < 2 or self._when[-1] == self._when[0]:
            return 0.0
        return (len(self._when) - 1) / (self._when[-1] - self._when[0])

    def html(self, wanted: float, engine: str) -> str:
        """Return the pace as a tile; `wanted` is the source's frames per second."""
        total = self.shown + self.dropped
        work = float(np.median(self.work_ms)) if self.work_ms else 0.0
        words = (
            f"of {wanted:.0f} that come; {self.shown} shown, {self.dropped} dropped "
            f"({self.dropped / max(total, 1):.0%}), "
            f"{work:.1f} ms a frame on {escape(engine)}"
        )
        return f'<div class="reading"><b>{self.rate:.1f} frames/s</b><span>{words}</span></div>'


def frame_html(pixels: np.ndarray) -> str:
    """Return a frame, uint8 (H, W, 3), as an image within the page: nothing of it touches the disk."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((SHOWN, SHOWN))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85, subsampling=0)
    source = base64.b64encode(file.getvalue()).decode()
    return f'<img class="frame" src="data:image/jpeg;base64,{source}" alt="frame with its mask">'
