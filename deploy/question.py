"""What is asked about a file, and what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .classes import class_map
from .clean import KEEP, Clean
from .errors import UserError
from .pixels import Pixels, level_of
from .segmenter import Segmenter
from .tiles import Progress
from .window import Window


@dataclass(frozen=True)
class Question:
    """What is asked about every picture.

    Attributes:
        prompts: one for a mask, several for a class map in their order.
        threshold: probability (0..1) above which a pixel counts; None is the manifest's.
        clean: what is done to each mask.
        tile: side of tiles in pixels for pictures far larger than the model's input; None asks about whole pictures.
        window: gray values (low, high) that become black and white in deep pictures; None is the reader's default.
        progress: is told how many tiles of a picture are done, of how many.
    """

    prompts: Sequence[str]
    threshold: float | None = None
    clean: Clean = KEEP
    tile: int | None = None
    window: Window | None = None
    progress: Progress | None = None

    def __post_init__(self) -> None:
        """Refuse a question without a prompt, or with a threshold that no probability is above."""
        if isinstance(self.prompts, str) or not self.prompts:
            raise UserError(f"prompts is {self.prompts!r}, expected a list of at least one sentence")
        level_of(self.threshold, 0)

    def ask(self, segmenter: Segmenter, image: Pixels) -> np.ndarray:
        """Return a class map, uint8 (H, W), of a picture; of a single prompt, 0 and 1.

        The segmenter keeps nothing of the picture, since files and frames are asked about once.
        """
        if len(self.prompts) == 1 and self.tile is None:
            return segmenter.segment(image, self.prompts[0], self.threshold, self.clean, remember=False).view(np.uint8)
        level = level_of(self.threshold, segmenter.manifest.threshold)
        if self.tile is not None:
            found = [segmenter.tiled(image, prompt, side=self.tile, progress=self.progress) for prompt in self.prompts]
        else:
            found = segmenter.run_batch([image] * len(self.prompts), self.prompts, remember=False)
        return class_map([answer.probability for answer in found], level, self.clean)


@dataclass(frozen=True)
class Done:
    """What became of one file.

    Attributes:
        source: the file.
        files: what was written of it; empty where it failed.
        areas: of each picture and prompt `{index, class, pixels, share, mm2}`.
        notes: sentences a user should read.
        error: why it failed, or None.
        skipped: it was done before.
    """

    source: Path
    files: tuple[Path, ...] = ()
    areas: list[dict[str, Any]] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    error: str | None = None
    skipped: bool = False

    @property
    def share(self) -> float:
        """Share of the file's pictures that is not background, 0 to 1."""
        pictures = len({area["index"] for area in self.areas}) or 1
        return sum(area["share"] for area in self.areas) / pictures

    @property
    def mm2(self) -> float | None:
        """Square millimetres over all pictures, or None where the spacing is not known."""
        values = [area["mm2"] for area in self.areas]
        return None if None in values or not values else sum(values)
