"""Pictures to try the page on, drawn here: soft blobs on uneven grounds. Nobody's data."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 352
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Blob:
    """A soft ellipse: centre and half axes as fractions of the side, turn in radians, colour 0 to 1."""

    center: tuple[float, float]
    axes: tuple[float, float]
    turn: float
    colour: Colour


@dataclass(frozen=True)
class Example:
    """A drawn picture and a prompt that names something in it; `speckle` is the ground's grain, 0 to 1."""

    name: str
    prompt: str
    ground: Colour
    blobs: tuple[Blob, ...]
    speckle: float = 0.0


YELLOW, RED, PURPLE = (0.95, 0.88, 0.25), (0.80, 0.10, 0.10), (0.48, 0.20, 0.66)
WHITE, BROWN, TEAL = (0.97, 0.97, 0.98), (0.44, 0.26, 0.13), (0.11, 0.35, 0.33)
EXAMPLES = (
    Example(
        "clinic",
        "one large oval lesion, located in right of the image",
        (0.20, 0.62, 0.58),
        (
            Blob((0.71, 0.53), (0.215, 0.125), 0.6, TEAL),
            Blob((0.25, 0.25), (0.075, 0.072), 0.0, YELLOW),
            Blob((0.33, 0.78), (0.095, 0.055), 2.4, WHITE),
        ),
        speckle=0.55,
    ),
    Example(
        "mucosa",
        "one medium yellow round polyp, located in left of the image",
        (0.70, 0.40, 0.36),
        (
            Blob((0.24, 0.50), (0.125, 0.118), 0.0, YELLOW),
            Blob((0.74, 0.26), (0.120, 0.115), 0.4, YELLOW),
            Blob((0.66, 0.74), (0.130, 0.120), 1.0, WHITE),
        ),
    ),
    Example(
        "slide",
        "many small purple round nuclei",
        (0.90, 0.82, 0.86),
        tuple(
            Blob((x + 0.04 * np.sin(9 * y), y + 0.03 * np.cos(7 * x)), (0.062, 0.058), x, PURPLE)
            for x in (0.2, 0.5, 0.8)
            for y in (0.2, 0.5, 0.8)
        ),
    ),
    Example(
        "skin",
        "one large brown oval lesion, located in center of the image",
        (0.86, 0.68, 0.56),
        (Blob((0.50, 0.51), (0.25, 0.14), 0.5, BROWN), Blob((0.16, 0.16), (0.075, 0.072), 0.0, RED)),
    ),
)


def write_examples(folder: Path) -> list[tuple[Path, str]]:
    """Draw every example into `folder` as a PNG and return each file with its prompt."""
    written = []
    for seed, example in enumerate(EXAMPLES):
        path = folder / f"{example.name}.png"
        Image.fromarray(draw(example, seed)).save(path)
        written.append((path, example.prompt))
    return written


def draw(example: Example, seed: int = 0) -> np.ndarray:
    """Return an example as uint8 (352, 352, 3), a function of `seed`."""
    rng = np.random.default_rng(seed)
    rough = 0.035 * _clouds(rng, 6) + 0.02 * _clouds(rng, 40)
    canvas = np.asarray(example.ground, np.float32) + rough[..., None]
    canvas *= _speckle(rng, example.speckle)[..., None]
    for blob in example.blobs:
        grain = 1 + 0.04 * _clouds(rng, 24 if not example.speckle else 176)
        canvas += _opacity(blob)[..., None] * (np.asarray(blob.colour, np.float32) * grain[..., None] - canvas)
    return (np.clip(canvas * _light()[..., None], 0, 1) * 255 + 0.5).astype(np.uint8)


def _clouds(rng: np.random.Generator, grid: int) -> np.ndarray:
    """Smooth noise of about unit variance, float32 (352, 352), `grid` cells wide."""
    coarse = Image.fromarray(rng.normal(0, 1, (grid, grid)).astype(np.float32))
    return np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def _speckle(rng: np.random.Generator, strength: float) -> np.ndarray:
    """Multiplicative noise of mean 1, coarse as that of an ultrasound, float32 (352, 352)."""
    if not strength:
        return np.ones((SIZE, SIZE), np.float32)
    coarse = Image.fromarray(rng.gamma(1 / strength**2, strength**2, (73, 73)).astype(np.float32))
    return np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def _opacity(blob: Blob) -> np.ndarray:
    """How much of each pixel the blob covers, float32 (352, 352), with an edge of about six pixels."""
    axis = (np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE
    x, y = axis[None] - blob.center[0], axis[:, None] - blob.center[1]
    along = (np.cos(blob.turn) * x + np.sin(blob.turn) * y) / blob.axes[0]
    across = (np.cos(blob.turn) * y - np.sin(blob.turn) * x) / blob.axes[1]
    inside = (1 - np.hypot(along, across)) * min(blob.axes)
    return np.clip(inside * SIZE / 6 + 0.5, 0, 1)


def _light() -> np.ndarray:
    """Brighter at the upper left, darker in the corners, float32 (352, 352)."""
    axis = np.linspace(-1, 1, SIZE, dtype=np.float32)
    x, y = axis[None], axis[:, None]
    return 1 - 0.06 * (x + y) - 0.12 * (x * x + y * y)
