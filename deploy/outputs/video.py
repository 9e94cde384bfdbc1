"""A video file, written frame by frame, whole or not at all."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..extras import load
from ..files import atomic_file

CLOCK = Fraction(1, 90_000)
"""Seconds of one tick; MPEG's own, so that times of any source come out exact enough."""
Write = Callable[[np.ndarray, Fraction], None]


@contextmanager
def write_video(path: Path | str, rate: Fraction) -> Iterator[Write]:
    """Hand out a function that appends a frame, uint8 RGB (H, W, 3), at a time in seconds from the video's start.

    H.264 in MP4, or MPEG-4 where the library has no H.264. Times must grow; a frame that does not is put one tick
    behind the last. A side of an odd number of pixels gets one more, a copy of its last, since the format has none.

    Raises:
        UserError: av absent, a name that is no MP4's, no frame, a frame of another size, or a place that cannot be
            written.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise UserError(f"--out {path} is not an MP4 file: end the name of an overlay video in .mp4")
    av = load("av", "video", "video")
    with atomic_file(path) as partial:
        try:
            with av.open(str(partial), "w", format="mp4") as container:
                sink = _Sink(av, container, rate)
                yield sink.write
                sink.finish()
        except (av.error.FFmpegError, OSError) as error:
            raise UserError(f"cannot write {path} ({error}): nothing was changed, choose another place") from error


class _Sink:
    """An encoder that is set up by the first frame."""

    def __init__(self, av: Any, container: Any, rate: Fraction):
        self._av, self._container, self._rate = av, container, rate
        self._stream, self._last = None, -1

    def write(self, pixels: np.ndarray, time: Fraction) -> None:
        """Encode one frame."""
        height, width = pixels.shape[:2]
        if height % 2 or width % 2:
            pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        stream = self._stream = self._stream or self._begin(*pixels.shape[:2])
        if pixels.shape[:2] != (stream.height, stream.width):
            raise UserError(f"a frame is {pixels.shape[:2]}, expected ({stream.height}, {stream.width}) as the first")
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.time_base = CLOCK
        frame.pts = self._last = max(round(time / CLOCK), self._last + 1)
        self._container.mux(stream.encode(frame))

    def finish(self) -> None:
        """Encode what the encoder still holds."""
        if self._stream is None:
            raise UserError("the video has no frame, expected at least one: choose another source")
        self._container.mux(self._stream.encode(None))

    def _begin(self, height: int, width: int) -> Any:
        codec = "libx264" if "libx264" in self._av.codecs_available else "mpeg4"
        stream = self._container.add_stream(codec, rate=self._rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = CLOCK
        return stream
