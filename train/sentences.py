"""What can be said about a drawn scene: words, their meanings, and the sentences made of them.

The vocabulary and the templates follow the community's prompts for polyps, skin lesions, tumours and nuclei
("one medium yellow round polyp, located in right of the image").
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

COLOURS = ("red", "yellow", "green", "blue", "purple", "white", "black", "brown", "pink")
SHAPES = ("round", "oval", "irregular", "square", "triangular")
SIZES = ("small", "medium", "large")
PLACES = ("top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right")
WORDS = {"colour": COLOURS, "shape": SHAPES, "size": SIZES, "place": PLACES}

# Never said together in training: what a model does with them shows whether it composes words.
HELD_OUT_LOOKS = frozenset(
    {
        ("red", "square"),
        ("yellow", "oval"),
        ("green", "triangular"),
        ("blue", "round"),
        ("purple", "irregular"),
        ("white", "oval"),
        ("black", "square"),
        ("brown", "triangular"),
        ("pink", "round"),
    }
)
HELD_OUT_SPOTS = frozenset(
    {("small", "top left"), ("large", "bottom"), ("medium", "right"), ("small", "center"), ("large", "top right")}
)

NOUNS = (
    ("polyp", "polyps"),
    ("lesion", "lesions"),
    ("tumor", "tumors"),
    ("blob", "blobs"),
    ("object", "objects"),
    ("ulcer", "ulcers"),
    ("spot", "spots"),
    ("nodule", "nodules"),
    ("mass", "masses"),
    ("nucleus", "nuclei"),
    ("cell", "cells"),
    ("cyst", "cysts"),
    ("mole", "moles"),
    ("nevus", "nevi"),
    ("skin lesion", "skin lesions"),
    ("benign tumor", "benign tumors"),
    ("cell nucleus", "cell nuclei"),
)
SYNONYMS = {
    "round": ("round", "round", "circle", "circular", "circle-shaped"),
    "oval": ("oval", "oval", "oval-shaped", "elongated"),
    "irregular": ("irregular", "irregular", "irregular-shaped"),
    "square": ("square", "square", "square-shaped"),
    "triangular": ("triangular", "triangle", "triangle-shaped"),
    "center": ("center", "center", "middle"),
}
COUNTS = {1: "one", 2: "two", 3: "three", 4: "four"}
PLACINGS = (
    "{}, located in {} of the image",
    "{}, located in the {}",
    "{} located in {} of the image",
    "{} at the {}",
    "{} in the {}",
    "{} at the {} of the picture",
    "{} on the {} side",
)
SETTINGS = (
    " in the endoscopy image",
    " in the breast ultrasound image",
    " in the microscopy image",
    " in the image",
    " which is a projecting growth of tissue",
    " which is an abnormal growth of tissue",
    " which is a small lump in the lining of colon",
)


@dataclass(frozen=True)
class Phrase:
    """What a sentence says of an object; None where it says nothing. The same record holds an object's own traits."""

    colour: str | None = None
    shape: str | None = None
    size: str | None = None
    place: str | None = None

    def fits(self, traits: Phrase) -> bool:
        """Is all that is said true of an object with these traits? "left" is true of "top left" too."""
        looks = all(getattr(self, k) in (None, getattr(traits, k)) for k in ("colour", "shape", "size"))
        return looks and (self.place is None or set(self.place.split()) <= set((traits.place or "").split()))

    @property
    def said(self) -> tuple[str, ...]:
        """Names of the traits that are mentioned."""
        return tuple(f.name for f in fields(self) if getattr(self, f.name) is not None)

    @property
    def held_out(self) -> bool:
        """Does it hold a pair of words that training never says together?"""
        return (self.colour, self.shape) in HELD_OUT_LOOKS or (self.size, self.place) in HELD_OUT_SPOTS

    def only(self, names: tuple[str, ...]) -> Phrase:
        """The phrase with the other traits left unsaid."""
        return Phrase(**{name: getattr(self, name) for name in names})

    def with_word(self, name: str, word: str) -> Phrase:
        """The phrase with one word replaced."""
        return replace(self, **{name: word})


def count_word(count: int) -> str:
    """The word for a number of objects: one to four, then "many"."""
    return COUNTS.get(count, "many")


def say(phrase: Phrase, count: int, rng: np.random.Generator) -> str:
    """One sentence that says a phrase of `count` objects (0: of an object that is not there)."""
    noun = NOUNS[rng.integers(len(NOUNS))][int(count > 1)]
    looks = [_synonym(word, rng) for word in (phrase.size, phrase.colour, phrase.shape) if word]
    if rng.random() < 0.2:
        rng.shuffle(looks)
    number = [count_word(max(count, 1))] if rng.random() < 0.35 else []
    sentence = " ".join([*number, *looks, noun])
    if phrase.place:
        sentence = PLACINGS[rng.integers(len(PLACINGS))].format(sentence, _synonym(phrase.place, rng))
    if rng.random() < 0.15:
        sentence += SETTINGS[rng.integers(len(SETTINGS))]
    return sentence + "." if rng.random() < 0.1 else sentence


def say_any(rng: np.random.Generator) -> str:
    """A sentence that names no trait: a bare noun, or nothing at all."""
    if rng.random() < 0.2:
        return ""
    noun = NOUNS[rng.integers(len(NOUNS))][rng.integers(2)]
    return noun + SETTINGS[rng.integers(len(SETTINGS))] if rng.random() < 0.3 else noun


def _synonym(word: str, rng: np.random.Generator) -> str:
    choices = SYNONYMS.get(word, (word,))
    return choices[rng.integers(len(choices))]
