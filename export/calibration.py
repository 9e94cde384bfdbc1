"""The pictures that ranges are measured on: a few of a data folder's training split, or of any folder of pictures."""

from collections.abc import Sequence
from pathlib import Path

from ..deploy.annotations import choose_prompt, read_split
from ..deploy.drawn import draw_cases
from ..deploy.errors import UserError
from ..deploy.pixels import SUFFIXES, read_image
from .judge import Picture

COUNT = 16
"""Pictures; ranges change little with more, and every layer group is measured on all of them."""


def read_pictures(
    folder: Path | str, prompt: str = "p1", fixed_prompts: Sequence[str] = (), count: int = COUNT
) -> list[Picture]:
    """Return at most `count` pictures, uint8 (H, W, 3), spread evenly, and what is asked of each.

    Args:
        folder: with `anns/`, its training split is used, so that test images stay unseen; else the pictures in it, or
            in its `images/`.
        prompt: key of the annotations.
        fixed_prompts: what is asked instead, in turn; a plain folder without them is asked for drawn things.
        count: pictures at most.

    Raises:
        UserError: no such folder, no pictures in it, or one that cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: --calibrate takes a data folder or a folder of pictures")
    if (folder / "anns").exists():
        samples = _spread(read_split(folder, "train"), count)
        asked = [choose_prompt(sample, prompt) for sample in samples]
        pictures = [read_image(sample.image) for sample in samples]
    else:
        paths = _spread(_pictures(folder), count)
        asked = [case.prompt for case in draw_cases(len(paths))]
        pictures = [read_image(path) for path in paths]
    if fixed_prompts:
        asked = [fixed_prompts[i % len(fixed_prompts)] for i in range(len(pictures))]
    return list(zip(pictures, asked, strict=True))


def _pictures(folder: Path) -> list[Path]:
    inner = folder / "images"
    found = sorted(path for path in (inner if inner.is_dir() else folder).iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise UserError(f"{folder} holds no pictures to calibrate on: expected {', '.join(sorted(SUFFIXES))} files")
    return found


def _spread(items: list, count: int) -> list:
    """Return at most `count` items, evenly over all."""
    return items[:: -(-len(items) // count)]
