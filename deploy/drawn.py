"""Drawn pictures to compare engines on: blobs on uneven grounds, half of them smaller than 1 % of the picture.

They are for parity alone, where both sides see the same; nobody's image is needed for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

COUNT = 16
SMALL = 0.01
"""An object is small below this share of the picture's area: there, one pixel counts."""

_COLOURS = {"red": (190, 60, 50), "green": (70, 150, 70), "blue": (60, 80, 180), "yellow": (210, 190, 70)}
_SHAPES = ("round", "long")
_SIZES = ((240, 320), (256, 256), (300, 200))


@dataclass(frozen=True)
class Case:
    """A picture, uint8 (H, W, 3), what is asked of it, and the share of its area that the object takes (0..1)."""

    image: np.ndarray
    prompt: str
    share: float


def draw_cases(count: int = COUNT, seed: int = 0) -> list[Case]:
    """Return `count` cases; every second one has an object of less than 1 % of the area, the others 3 to 20 %."""
    draw = np.random.default_rng(seed)
    return [_case(draw, _SIZES[i % len(_SIZES)], small=i % 2 == 0) for i in range(count)]


def with_prompts(cases: Sequence[Case], prompts: Sequence[str]) -> list[Case]:
    """Return the cases asked `prompts` in turn, for a bundle that knows no other; all as they are where it is empty."""
    if not prompts:
        return list(cases)
    return [Case(case.image, prompts[i % len(prompts)], case.share) for i, case in enumerate(cases)]


def _case(draw: np.random.Generator, size: tuple[int, int], small: bool) -> Case:
    height, width = size
    share = draw.uniform(0.002, 0.009) if small else draw.uniform(0.03, 0.2)
    colour, shape = draw.choice(list(_COLOURS)), draw.choice(_SHAPES)
    mask = _blob(draw, height, width, share, 1.0 if shape == "round" else 2.5)
    image = _ground(draw, height, width)
    image[mask] = np.asarray(_COLOURS[str(colour)]) + draw.normal(0, 8, (int(mask.sum()), 3))
    prompt = f"one {'small' if small else 'large'} {shape} {colour} spot"
    return Case(np.clip(image, 0, 255).astype(np.uint8), prompt, float(mask.mean()))


def _blob(draw: np.random.Generator, height: int, width: int, share: float, aspect: float) -> np.ndarray:
    """Return an ellipse, bool (H, W), of about `share` of the area, wholly inside."""
    radius = np.sqrt(share * height * width / np.pi)
    a, b, turn = radius * np.sqrt(aspect), radius / np.sqrt(aspect), draw.uniform(0, np.pi)
    # a side shorter than the ellipse is long leaves one place for it, the middle
    y, x = (draw.uniform(min(a, side / 2), max(side - a, side / 2)) for side in (height, width))
    dy, dx = np.mgrid[0:height, 0:width] - np.array([y, x])[:, None, None]
    along, across = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    return (along / a) ** 2 + (across / b) ** 2 <= 1


def _ground(draw: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return an unevenly lit ground of one colour with grain, float (H, W, 3)."""
    y, x = np.mgrid[0:height, 0:width]
    light = 1 + draw.uniform(-0.3, 0.3) * (x / width - 0.5) + draw.uniform(-0.3, 0.3) * (y / height - 0.5)
    return draw.uniform(80, 200, 3) * light[..., None] + draw.normal(0, 6, (height, width, 3))
