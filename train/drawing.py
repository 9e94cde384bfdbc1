"""How a drawn scene gets its pixels: contours, colours, textures, light and the faults of a camera.

Lengths are fractions of the picture's side; colours and canvases are float32 RGB from 0 to 1.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np
from PIL import Image

Array = np.ndarray
Range = tuple[float, float]
Hsv = tuple[Range, Range, Range]


def colour(ranges: Hsv, rng: np.random.Generator) -> Array:
    """A colour, float32 (3,), drawn from ranges of hue (degrees), saturation and value (0 to 1)."""
    hue, saturation, value = (rng.uniform(*r) for r in ranges)
    return np.array(colorsys.hsv_to_rgb(hue / 360 % 1, saturation, value), np.float32)


def clouds(rng: np.random.Generator, size: int, grid: int) -> Array:
    """Smooth noise of about unit variance, float32 (size, size), `grid` cells wide."""
    coarse = Image.fromarray(rng.normal(0, 1, (grid, grid)).astype(np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))


def contour(shape: str, rng: np.random.Generator) -> Callable[[Array], Array]:
    """A radius as a function of the angle, for a shape of the area of the unit disc."""
    turn = rng.uniform(0, 2 * np.pi)
    if shape == "round":
        return _ellipse(rng.uniform(1.0, 1.1), turn)
    if shape == "oval":
        return _ellipse(rng.uniform(2.0, 2.6), turn)
    if shape == "square":
        return _polygon(4, turn)
    if shape == "triangular":
        return _polygon(3, turn)
    return _wobble(rng)


def _ellipse(aspect: float, turn: float) -> Callable[[Array], Array]:
    a, b = aspect**0.5, aspect**-0.5
    return lambda t: 1 / np.sqrt((np.cos(t - turn) / a) ** 2 + (np.sin(t - turn) / b) ** 2)


def _polygon(sides: int, turn: float) -> Callable[[Array], Array]:
    inner = np.sqrt(np.pi / (sides * np.tan(np.pi / sides)))
    return lambda t: inner / np.cos(np.mod(t - turn, 2 * np.pi / sides) - np.pi / sides)


def _wobble(rng: np.random.Generator) -> Callable[[Array], Array]:
    """Five to seven uneven lobes with deep bays between them."""
    lobes, turn, slow = rng.integers(5, 8), rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi)
    depth, drift = rng.uniform(0.27, 0.37), rng.uniform(0.0, 0.12)
    norm = np.sqrt(1 + depth**2 / 2 + drift**2 / 2)
    return lambda t: (1 + depth * np.cos(lobes * t + turn) + drift * np.cos(2 * t + slow)) / norm


def blob(
    size: int, center: tuple[float, float], radius: float, outline: Callable[[Array], Array], softness: float
) -> tuple[tuple[slice, slice], Array, Array]:
    """The window a blob lies in, its depth (1 at the centre, 0 on the contour) and its opacity there, float32."""
    x, y = center[0] * size, center[1] * size
    reach = radius * size * 1.7 + 2
    rows = slice(max(0, int(y - reach)), min(size, int(y + reach) + 1))
    columns = slice(max(0, int(x - reach)), min(size, int(x + reach) + 1))
    dy = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] + 0.5 - y
    dx = np.arange(columns.start, columns.stop, dtype=np.float32)[None] + 0.5 - x
    edge = outline(np.arctan2(dy, dx)).astype(np.float32) * (radius * size)
    distance = np.sqrt(dx * dx + dy * dy)
    opacity = np.clip((edge - distance) / max(softness * size, 1.0) + 0.5, 0, 1)
    return (rows, columns), 1 - distance / edge, opacity


def light(rng: np.random.Generator, size: int, strength: float = 1.0) -> Array:
    """Uneven lighting: a slope and a vignette, float32 (size, size, 1), around 1."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = axis[None], axis[:, None]
    angle, slope, corner = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.18), rng.uniform(0, 0.18) * (rng.random() < 0.5)
    return (1 + strength * (slope * (np.cos(angle) * x + np.sin(angle) * y) - corner * (x * x + y * y)))[..., None]


def camera(rng: np.random.Generator, canvas: Array, noise: float = 0.04) -> Array:
    """What a camera makes of a canvas (S, S, 3): uint8, perhaps glints, blur, sensor noise."""
    size = canvas.shape[0]
    if rng.random() < 0.25:
        _glints(rng, canvas)
    if rng.random() < 0.3:
        for axis in (0, 1):
            canvas = 0.5 * canvas + 0.25 * (np.roll(canvas, 1, axis) + np.roll(canvas, -1, axis))
    if rng.random() < 0.7:
        grain = rng.standard_normal((size, size, 1 if rng.random() < 0.5 else 3), dtype=np.float32)
        canvas = canvas + grain * np.float32(rng.uniform(0, noise))
    return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)


def _glints(rng: np.random.Generator, canvas: Array) -> None:
    """Small white reflections, painted in place."""
    size = canvas.shape[0]
    for _ in range(rng.integers(1, 6)):
        spot = (rng.uniform(0.05, 0.95), rng.uniform(0.05, 0.95))
        window, _, opacity = blob(size, spot, rng.uniform(0.006, 0.016), contour("oval", rng), 0.01)
        canvas[window] += opacity[..., None] * (1 - canvas[window]) * 0.9
