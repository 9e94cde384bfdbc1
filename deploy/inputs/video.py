"""Frames of a video file or a camera, upright, as they come."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..extras import load

SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})
CAMERA = "camera:"
_TURNS = {0: 0, 90: 1, 180: 2, 270: 3, -90: 3, -180: 2}
_DRIVERS = {"linux": ("video4linux2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}


@dataclass(frozen=True)
class Frame:
    """One frame: uint8 RGB (H, W, 3), upright, and its time in the video, in seconds from the video's own zero."""

    pixels: np.ndarray
    time: Fraction


@dataclass(frozen=True)
class Video:
    """A video that is open.

    Attributes:
        name: what was asked for.
        rate: frames per second as the file or camera states them.
        count: how many frames the file says it has; None where nobody knows.
        frames: yields each frame once.
    """

    name: str
    rate: Fraction
    count: int | None
    frames: Iterator[Frame]


def is_video(source: Path | str) -> bool:
    """Is this a camera, or a file named as videos are?"""
    return str(source).startswith(CAMERA) or Path(source).suffix.lower() in SUFFIXES


@contextmanager
def open_video(source: Path | str) -> Iterator[Video]:
    """Open a video file, or a camera by `camera:0`, and close it at the end of the block.

    Raises:
        UserError: av absent, no such file or camera, no video in it; while frames are read, a file that is damaged.
    """
    av = load("av", "video", "video")
    name = str(source)
    try:
        container = _open_camera(av, name) if name.startswith(CAMERA) else _open_file(av, Path(source))
    except UserError:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise UserError(f"cannot open {name} as a video ({error}): check the path, or save it as MP4") from error
    with container:
        if not container.streams.video:
            raise UserError(f"{name} holds no video: choose another file")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        rate = stream.average_rate or stream.base_rate or Fraction(25)
        yield Video(name, Fraction(rate), stream.frames or None, _frames(av, container, stream, name))


def _open_file(av: Any, path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"no video file {path}: check the path")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty (0 bytes), expected a video: copy it again")
    return av.open(str(path))


def _open_camera(av: Any, name: str) -> Any:
    if sys.platform not in _DRIVERS:
        raise UserError(f"{name} cannot be opened here: cameras are read on Linux and macOS; record a file instead")
    driver, place = _DRIVERS[sys.platform]
    number = name.removeprefix(CAMERA)
    if not number.isdigit():
        raise UserError(f"{name} is no camera: expected {CAMERA}0 for the first, {CAMERA}1 for the next")
    return av.open(place.format(number), format=driver)


def _frames(av: Any, container: Any, stream: Any, name: str) -> Iterator[Frame]:
    try:
        for number, frame in enumerate(container.decode(stream)):
            pixels = frame.to_ndarray(format="rgb24")
            turns = _TURNS.get(round(frame.rotation), 0)
            time = frame.pts * frame.time_base if frame.pts is not None else number / Fraction(stream.average_rate)
            yield Frame(np.ascontiguousarray(np.rot90(pixels, turns)), Fraction(time))
    except av.error.FFmpegError as error:
        raise UserError(f"cannot read {name} to its end ({error}): it is damaged; save it again") from error
