"""The community's ladder of prompts, p0 to p9: each step says one thing more (arXiv 2405.06196, and others).

p1 the class; p2 + shape; p3 + colour; p4 + size; p5 + number; p6 + place; p7 the class with what is known of it;
p8 is p5, p9 is p6, with that clause.
"""

from dataclasses import dataclass

SHAPES = ("round", "oval", "irregular", "square", "triangular")
COLOURS = ("red", "yellow", "green", "blue", "purple", "white", "black", "brown", "pink")
SIZES = ("small", "medium", "large")
COUNTS = ("one", "two", "three", "many")
PLACES = ("top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right")
STEPS = tuple(f"p{i}" for i in range(10))


@dataclass(frozen=True)
class Said:
    """What is to be said of an object; None where it is left unsaid."""

    noun: str
    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    count: str | None = None
    place: str | None = None
    clause: str = ""


def ladder(said: Said) -> dict[str, str]:
    """Return the sentence of each step, p0 (which says nothing) to p9; what is unsaid is left out."""
    looks = [said.shape, said.colour, said.size, said.count]
    described = [_words(*reversed(looks[:known]), said.noun) for known in range(len(looks) + 1)]
    clause = _words(said.clause)
    full, place = described[-1], f"located in {said.place} of the image" if said.place else ""
    return {
        "p0": "",
        **{f"p{i + 1}": sentence for i, sentence in enumerate(described)},
        "p6": f"{full}, {place}" if place else full,
        "p7": _words(said.noun, clause),
        "p8": _words(full, clause),
        "p9": _words(full, clause, place),
    }


def _words(*parts: str | None) -> str:
    return " ".join(part.strip() for part in parts if part and part.strip())
