"""Drawn scenes: blobs on textured, unevenly lit grounds, and the sentences that are true of them.

Everything is a function of a `numpy.random.Generator`. Lengths are fractions of the picture's side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from . import drawing
from .sentences import COLOURS, PLACES, SHAPES, WORDS, Phrase, say, say_any

T = TypeVar("T")
Array = np.ndarray
Layout = list[tuple[Phrase, tuple[float, float], float]]

# Ranges of hue (degrees), saturation and value, with gaps between the colours' names.
PALETTE: dict[str, drawing.Hsv] = {
    "red": ((-5, 6), (0.80, 0.95), (0.70, 0.92)),
    "yellow": ((52, 60), (0.70, 0.95), (0.88, 1.00)),
    "green": ((110, 140), (0.60, 0.90), (0.50, 0.80)),
    "blue": ((208, 228), (0.70, 0.90), (0.70, 0.95)),
    "purple": ((272, 288), (0.60, 0.85), (0.55, 0.80)),
    "white": ((0, 360), (0.00, 0.06), (0.93, 1.00)),
    "black": ((0, 360), (0.00, 0.30), (0.02, 0.10)),
    "brown": ((22, 30), (0.60, 0.75), (0.36, 0.48)),
    "pink": ((325, 342), (0.35, 0.50), (0.92, 1.00)),
}
# Dark scan, mucosa, skin, dark microscopy, stained slide, bright field, anything dull.
GROUNDS: tuple[drawing.Hsv, ...] = (
    ((0, 360), (0.00, 0.12), (0.12, 0.40)),
    ((-5, 22), (0.35, 0.60), (0.50, 0.75)),
    ((15, 32), (0.20, 0.45), (0.65, 0.90)),
    ((200, 260), (0.00, 0.50), (0.03, 0.14)),
    ((285, 325), (0.12, 0.30), (0.72, 0.90)),
    ((0, 360), (0.00, 0.08), (0.80, 0.95)),
    ((0, 360), (0.05, 0.35), (0.30, 0.80)),
)
# Radius of the disc of equal area, with gaps between the sizes' names.
RADII = {"small": (0.068, 0.084), "medium": (0.112, 0.132), "large": (0.172, 0.205)}
CELLS: dict[str, tuple[float, float]] = dict(
    zip(PLACES, [(x, y) for y in (0.2, 0.5, 0.8) for x in (0.2, 0.5, 0.8)], strict=True)
)
CONTRAST = 0.28
Chances = Mapping[str, float]
EVEN: Chances = dict.fromkeys(WORDS, 0.5)
"""How often a sentence mentions each trait."""


@dataclass(frozen=True)
class Blob:
    """One drawn object: its traits in words, where its centre lies, its mask, bool (S, S)."""

    traits: Phrase
    center: tuple[float, float]
    mask: Array


@dataclass(frozen=True)
class Scene:
    """A picture, uint8 (S, S, 3), and the objects drawn in it."""

    image: Array
    blobs: tuple[Blob, ...]

    def mask(self, phrase: Phrase) -> Array:
        """All objects that a phrase fits, together, bool (S, S)."""
        masks = [blob.mask for blob in self.blobs if phrase.fits(blob.traits)]
        return np.logical_or.reduce(masks) if masks else np.zeros(self.image.shape[:2], bool)

    def count(self, phrase: Phrase) -> int:
        """How many objects a phrase fits."""
        return sum(phrase.fits(blob.traits) for blob in self.blobs)


@dataclass(frozen=True)
class Question:
    """What is asked of a scene: what is meant, the sentence that says it, and the mask it means, bool (S, S)."""

    phrase: Phrase
    sentence: str
    mask: Array


def draw(rng: np.random.Generator, size: int = 176, *, least: int = 1) -> Scene:
    """Draw a scene of `least` (1 to 4) or more objects, `size` pixels wide and high."""
    ground = drawing.colour(GROUNDS[rng.integers(len(GROUNDS))], rng)
    palette = {name: drawing.colour(PALETTE[name], rng) for name in COLOURS}
    visible = [name for name in COLOURS if np.abs(palette[name] - ground).max() > CONTRAST]
    kind = rng.random()
    if kind < 0.06:
        layout = _field(rng, visible)
    elif kind < 0.16 and least == 1:
        layout = _portrait(rng, visible)
    else:
        layout = _gather(rng, visible, least)
    return _paint(rng, size, ground, layout)


def ask(
    scene: Scene,
    rng: np.random.Generator,
    *,
    absent: float = 0.15,
    bare: float = 0.08,
    about: Sequence[Blob] | None = None,
    chances: Chances = EVEN,
) -> Question:
    """One question about a scene, never with a pair of words that is held out.

    `absent` and `bare` are the shares of sentences about an object that is not there, and of those that name no trait;
    `about` are the objects whose traits the others name (None: any of the scene), each with its chance of `chances`.
    """
    kind, about = rng.random(), about or scene.blobs
    if kind < bare:
        return Question(Phrase(), say_any(rng), scene.mask(Phrase()))
    if kind < bare + absent:
        phrase = absent_phrase(scene, rng, about=about, chances=chances)
    else:
        phrase = present_phrase(scene, rng, telling=True, tries=12, about=about, chances=chances)
        phrase = phrase or present_phrase(scene, rng, about=about, chances=chances)
    phrase = phrase or Phrase(size=about[0].traits.size)
    return Question(phrase, say(phrase, scene.count(phrase), rng), scene.mask(phrase))


def present_phrase(
    scene: Scene,
    rng: np.random.Generator,
    *,
    held_out: bool = False,
    telling: bool = False,
    tries: int = 40,
    about: Sequence[Blob] | None = None,
    chances: Chances = EVEN,
) -> Phrase | None:
    """A phrase true of some object: with a held-out pair of words, or (by default) without. None if none is found.

    `telling`: it must leave some other object out. `about`: the objects to choose from (None: all).
    """
    about = about or scene.blobs
    for _ in range(tries):
        phrase = _mention(_pick(about, rng).traits, rng, chances)
        if phrase.said and phrase.held_out == held_out and not (telling and scene.count(phrase) == len(scene.blobs)):
            return phrase
    return None


def absent_phrase(
    scene: Scene,
    rng: np.random.Generator,
    *,
    tries: int = 40,
    about: Sequence[Blob] | None = None,
    chances: Chances = EVEN,
) -> Phrase | None:
    """A phrase that is a word away from some object of `about` (None: of all) and true of none, without held-out pairs.

    None if none is found.
    """
    about = about or scene.blobs
    for _ in range(tries):
        phrase = _mention(_pick(about, rng).traits, rng, chances)
        if not phrase.said:
            continue
        name = phrase.said[rng.integers(len(phrase.said))]
        phrase = phrase.with_word(name, _pick(WORDS[name], rng))
        if not phrase.held_out and scene.count(phrase) == 0:
            return phrase
    return None


def _mention(traits: Phrase, rng: np.random.Generator, chances: Chances) -> Phrase:
    phrase = traits.only(tuple(name for name in WORDS if rng.random() < chances[name]))
    if phrase.place and " " in phrase.place and rng.random() < 0.4:
        phrase = phrase.with_word("place", _pick(phrase.place.split(), rng))
    return phrase


def _pick(choices: Sequence[T], rng: np.random.Generator) -> T:
    return choices[int(rng.integers(len(choices)))]


def _traits(rng: np.random.Generator, visible: list[str]) -> Phrase:
    return Phrase(_pick(visible, rng), _pick(SHAPES, rng), _pick(tuple(RADII), rng), _pick(PLACES, rng))


def _gather(rng: np.random.Generator, visible: list[str], least: int) -> Layout:
    """One object and others that mostly share all of its traits but one, none touching."""
    first = _traits(rng, visible)
    wanted = max(least, int(rng.integers(1, 7)))
    layout: Layout = []
    for attempt in range(40):
        if len(layout) == wanted or (attempt > 12 and len(layout) >= least):
            break
        traits = first if not layout else _alike(first, rng, visible)
        if attempt > 25:
            traits = traits.with_word("size", "small")
        center, radius = _spot(traits, rng)
        if all(np.hypot(center[0] - c[0], center[1] - c[1]) > 1.25 * (radius + r) + 0.02 for _, c, r in layout):
            layout.append((traits, center, radius))
    return layout


def _alike(first: Phrase, rng: np.random.Generator, visible: list[str]) -> Phrase:
    """Traits that differ from the first object's in place and mostly in one word more at most."""
    other = _traits(rng, visible)
    if rng.random() < 0.25:
        return other
    traits = first.with_word("place", other.place or "center")
    name = _pick(("colour", "shape", "shape", "size", "place"), rng)
    return traits.with_word(name, getattr(other, name))


def _spot(traits: Phrase, rng: np.random.Generator) -> tuple[tuple[float, float], float]:
    radius = rng.uniform(*RADII[traits.size or "medium"])
    near, far = 1.1 * radius, 1 - 1.1 * radius
    x, y = (float(np.clip(v + rng.uniform(-0.06, 0.06), near, far)) for v in CELLS[traits.place or "center"])
    return (x, y), radius


def _field(rng: np.random.Generator, visible: list[str]) -> Layout:
    """Many small objects of one shape and one or two colours, like nuclei under a microscope."""
    shape, colours = _pick(("round", "oval", "irregular"), rng), [_pick(visible, rng) for _ in range(2)]
    layout: Layout = []
    for place in rng.permutation(PLACES)[: rng.integers(5, 10)]:
        (x, y), radius = _spot(Phrase(place=str(place), size="small"), rng)
        layout.append((Phrase(_pick(colours, rng), shape, "small", str(place)), (x, y), radius * rng.uniform(0.6, 1)))
    return layout


def _portrait(rng: np.random.Generator, visible: list[str]) -> Layout:
    """One large object that fills much of the picture, like a skin lesion; half of them of no named colour."""
    center = (rng.uniform(0.44, 0.56), rng.uniform(0.44, 0.56))
    named = _pick(visible, rng) if rng.random() < 0.5 else None
    return [(Phrase(named, _pick(SHAPES, rng), "large", "center"), center, rng.uniform(0.18, 0.32))]


def _nameless(ground: Array, rng: np.random.Generator) -> Array:
    """A colour a little darker (mostly) or lighter than the ground."""
    change = rng.uniform(0.4, 0.8) if rng.random() < 0.7 else rng.uniform(1.25, 1.7)
    return np.clip(ground * change + rng.normal(0, 0.04, 3).astype(np.float32), 0, 1)


def _paint(rng: np.random.Generator, size: int, ground: Array, layout: Layout) -> Scene:
    """Paint objects on a ground, then light and photograph them."""
    rough = drawing.clouds(rng, size, int(rng.integers(4, 9))) + drawing.clouds(rng, size, int(rng.integers(12, 40)))
    canvas = ground + (rough * np.float32(rng.uniform(0, 0.05)))[..., None]
    grain = drawing.clouds(rng, size, int(rng.integers(20, 44))) * np.float32(rng.uniform(0, 0.06))
    softness = rng.uniform(0.004, 0.02 if len(layout) > 1 else 0.06)
    rim = rng.uniform(-0.3, 0.15) * (rng.random() < 0.5)
    blobs = []
    for traits, center, radius in layout:
        outline = drawing.contour(traits.shape or "round", rng)
        window, depth, opacity = drawing.blob(size, center, radius, outline, softness)
        paint = drawing.colour(PALETTE[traits.colour], rng) if traits.colour else _nameless(ground, rng)
        shade = 1 + rim * (1 - np.clip(depth * 3, 0, 1)) + grain[window]
        canvas[window] += (opacity * rng.uniform(0.9, 1.0))[..., None] * (paint * shade[..., None] - canvas[window])
        mask = np.zeros((size, size), bool)
        mask[window] = depth > 0
        blobs.append(Blob(traits, center, mask))
    return Scene(drawing.camera(rng, canvas * drawing.light(rng, size)), tuple(blobs))
