"""A drawn clinic: a look that the embedded base has never seen, and data sets written in the community's layout.

The pictures are like ultrasound through a tinted screen: coarse multiplicative speckle on teal, lesions that are faint,
soft and told by their finer grain, and bright crisp marks of the machine that are no lesions.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from ..deploy.errors import UserError
from ..deploy.files import atomic_folder
from . import drawing
from .scenes import CELLS, RADII, Blob, Scene, draw
from .sentences import PLACES, Phrase, count_word

Array = np.ndarray
SPLITS = ("train", "val", "test")
TINT = (0.20, 0.62, 0.58)
INKS = ((0.98, 0.93, 0.30), (0.95, 0.97, 1.00), (0.98, 0.45, 0.20))


def draw_clinic(rng: np.random.Generator, size: int = 176) -> Scene:
    """Draw one clinic picture with one or two faint lesions and some bright marks, `size` pixels wide and high."""
    blobs = _lesions(rng, size)
    depth = sum(blob_opacity for _, blob_opacity in blobs)
    speckle, fine = _speckle(rng, size, 2.4, 0.55), _speckle(rng, size, 1.0, 0.22)
    brightness = rng.uniform(0.8, 1.1) * (1 - depth) * speckle + rng.uniform(0.5, 0.62) * depth * fine
    bands = 1 + 0.2 * drawing.clouds(rng, size, 4)
    canvas = (brightness * bands)[..., None] * np.array(TINT, np.float32)
    _marks(rng, canvas, [blob for blob, _ in blobs])
    return Scene(drawing.camera(rng, canvas.astype(np.float32)), tuple(blob for blob, _ in blobs))


def _speckle(rng: np.random.Generator, size: int, grain: float, strength: float) -> Array:
    """Multiplicative speckle of mean 1, with grains of so many 176ths of the picture's side, float32 (size, size)."""
    cells = max(2, round(176 / grain))
    coarse = Image.fromarray(rng.gamma(1 / strength**2, strength**2, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BILINEAR))


def _lesions(rng: np.random.Generator, size: int) -> list[tuple[Blob, Array]]:
    """One or two lesions in cells that do not touch, with their soft opacity, float32 (size, size)."""
    found: list[tuple[Blob, Array]] = []
    for place in _places(rng):
        shape = str(rng.choice(["round", "oval", "irregular"]))
        scale = str(rng.choice(["medium", "large"]))
        radius = rng.uniform(*RADII[scale])
        x, y = (float(np.clip(v + rng.uniform(-0.05, 0.05), 1.1 * radius, 1 - 1.1 * radius)) for v in CELLS[place])
        window, depth, soft = drawing.blob(size, (x, y), radius, drawing.contour(shape, rng), 0.035)
        mask, opacity = np.zeros((size, size), bool), np.zeros((size, size), np.float32)
        mask[window], opacity[window] = depth > 0, soft
        found.append((Blob(Phrase(None, shape, scale, place), (x, y), mask), opacity))
    return found


def _places(rng: np.random.Generator) -> tuple[str, ...]:
    if rng.random() < 0.7:
        return (str(rng.choice(PLACES)),)
    corner = ("top left", "top right")[rng.integers(2)]
    return corner, {"top left": "bottom right", "top right": "bottom left"}[corner]


def _marks(rng: np.random.Generator, canvas: Array, lesions: list[Blob]) -> None:
    """Bright marks of the machine beside the lesions, painted in place."""
    size = canvas.shape[0]
    for _ in range(rng.integers(2, 5)):
        spot = (rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.9))
        shape, radius = str(rng.choice(["round", "square", "oval"])), rng.uniform(0.05, 0.09)
        window, _, opacity = drawing.blob(size, spot, radius, drawing.contour(shape, rng), 0.006)
        if not any(lesion.mask[window].any() for lesion in lesions):
            canvas[window] += (
                0.95 * opacity[..., None] * (np.array(INKS[rng.integers(len(INKS))], np.float32) - canvas[window])
            )


STYLES: dict[str, Callable[[np.random.Generator, int], Scene]] = {"clinic": draw_clinic, "plain": draw}


def prompts(scene: Scene) -> dict[str, str]:
    """The community's ladder of prompts for all objects of a scene: p0 is empty, each next one says more."""
    first, count = scene.blobs[0].traits, len(scene.blobs)
    noun = "lesion" if count == 1 else "lesions"
    looks = " ".join(word for word in (first.size, first.colour, first.shape) if word) if count == 1 else ""
    described = f"{looks} {noun}".strip()
    counted = f"{count_word(count)} {described}"
    where = ", ".join(blob.traits.place or "center" for blob in scene.blobs)
    return {"p0": "", "p1": noun, "p2": described, "p3": counted, "p4": f"{counted}, located in {where} of the image"}


def write_dataset(
    folder: Path | str, n_train: int, n_val: int, n_test: int, size: int = 176, style: str = "clinic", seed: int = 0
) -> Path:
    """Write drawn pictures in the community's layout: images/, masks/, anns/{train,val,test}.json, prompts p0 to p4.

    Whole or not at all; a folder that exists is replaced only if it was written here. Styles: "clinic" and "plain".

    Raises:
        UserError: an unknown style, or a folder that is not ours.
    """
    if style not in STYLES:
        raise UserError(f"unknown style {style!r} of drawn data: choose one of {', '.join(STYLES)}")
    counts = dict(zip(SPLITS, (n_train, n_val, n_test), strict=True))
    with atomic_folder(folder, "drawn.json", overwrite=True) as made:
        for name in ("images", "masks", "anns"):
            (made / name).mkdir()
        for number, (split, count) in enumerate(counts.items()):
            rows = [
                _write_pair(made, f"{split}_{i:04d}.png", _scene(style, seed, number, i, size)) for i in range(count)
            ]
            (made / "anns" / f"{split}.json").write_text(json.dumps(rows, indent=1))
        (made / "drawn.json").write_text(json.dumps({"style": style, "seed": seed, "size": size, **counts}))
    return Path(folder)


def _scene(style: str, seed: int, split: int, index: int, size: int) -> Scene:
    return STYLES[style](np.random.default_rng([3, seed, split, index]), size)


def _write_pair(folder: Path, name: str, scene: Scene) -> dict[str, object]:
    for kind, pixels in (("images", scene.image), ("masks", scene.mask(Phrase()).astype(np.uint8) * 255)):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        (folder / kind / name).write_bytes(buffer.getvalue())
    return {"img_name": name, "mask_name": name, "prompts": prompts(scene)}
