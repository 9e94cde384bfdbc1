"""What the page keeps of one user: the picture, and the last answer. Held in memory, one for each session."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from time import perf_counter

import numpy as np
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from ..deploy.errors import UserError
from ..deploy.inputs.picture import Picture
from .files import open_picture
from .picture import to_png

LONGEST = 1280
"""Longest side of what is drawn for the screen, pixels; measures and downloads are of the picture itself."""


@dataclass(frozen=True)
class Seen:
    """A user's picture.

    Attributes:
        shown: path of the file that the page shows; by it a picture is known again.
        picture: pixels, spacing and source.
        count: how many pictures the source holds.
        decode_ms: what reading it took.
    """

    shown: str
    picture: Picture
    count: int
    decode_ms: float

    @property
    def pixels(self) -> np.ndarray:
        """The picture, uint8 (H, W, 3)."""
        return self.picture.pixels

    @cached_property
    def small(self) -> np.ndarray:
        """The picture for the screen, uint8 (h, w, 3)."""
        return fitted(self.pixels)


@dataclass(frozen=True)
class Answer:
    """What one question gave: sliders act on it without asking the model again.

    Attributes:
        seen: what was asked about.
        prompt: the sentence.
        bundle: name of the bundle that answered.
        probability: float32 (H, W), 0..1.
    """

    seen: Seen
    prompt: str
    bundle: str
    probability: np.ndarray

    @cached_property
    def small(self) -> np.ndarray:
        """The probability for the screen, float32 (h, w)."""
        return fitted(self.probability)


@dataclass(frozen=True)
class Session:
    """One user's page."""

    seen: Seen | None = None
    answer: Answer | None = None

    @property
    def shown(self) -> str | None:
        """Path of what the page shows, where it is still there."""
        return self.seen.shown if self.seen and Path(self.seen.shown).is_file() else None

    def answered(self, answer: Answer) -> "Session":
        """Return the session with an answer."""
        return replace(self, answer=answer)


def looking_at(kept: Session, shown: str | None) -> tuple[Session, Seen]:
    """Return the session with the picture of a file, and the picture, read anew only where it is another one.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    if not shown:
        raise UserError("there is no picture yet: upload, paste or photograph one, or pick an example")
    if kept.seen and kept.seen.shown == shown:
        return kept, kept.seen
    start = perf_counter()
    picture, count = open_picture(shown)
    seen = Seen(shown, picture, count, (perf_counter() - start) * 1000)
    return Session(seen), seen


def see(source: str, index: int | None = None) -> Seen:
    """Read a picture that browsers do not show, by its index (None: the middle one), and make what is shown of it."""
    start = perf_counter()
    picture, count = open_picture(source, index)
    took = (perf_counter() - start) * 1000
    name = f"{Path(source).stem}-{picture.index}.png"
    return Seen(save_bytes_to_cache(to_png(fitted(picture.pixels)), name, get_upload_folder()), picture, count, took)


def fitted(values: np.ndarray, longest: int = LONGEST) -> np.ndarray:
    """Return an array (H, W, ...) no longer than `longest`, and as it is where it fits."""
    height, width = values.shape[:2]
    if max(height, width) <= longest:
        return values
    scale = longest / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR))
