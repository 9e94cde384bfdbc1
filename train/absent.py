"""Sentences that name what is not in an image, whose answer is an empty mask: to train with, and to ask.

They are another data folder's own, and the names of `OBJECTS`. Two folders whose phrases (p1) share a word that tells
something, such as two of polyps, are of the same object.
"""

import re
from collections.abc import Mapping, Sequence

from ..deploy.annotations import RANDOM, Sample
from .seeds import derive
from .spoken import sentences

OBJECTS = (
    "polyp", "skin lesion", "tumor in the breast ultrasound image", "both lungs in the chest X-ray", "cell nuclei",
    "left ventricle of the heart", "optic disc", "foot ulcer", "liver", "kidney", "brain hemorrhage", "blood vessels",
    "teeth", "surgical instrument", "bone fracture", "lymph node",
)  # fmt: skip
PHRASE = "p1"
# fmt: off
TELLS_NOTHING = frozenset((
    "a", "an", "and", "both", "image", "images", "in", "is", "no", "of", "on", "one", "the", "to", "which", "with", "x",
))
# fmt: on


class Absent:
    """For each sample of each data folder, what can be said that is not in it."""

    def __init__(self, folders: Mapping[str, Sequence[Sample]], key: str) -> None:
        """`folders` are the samples of each by its name; of the others' sentences, those of the prompt `key` are used.

        A folder without that key lends none; one alone, called anything, has `OBJECTS`.
        """
        kinds = {name: _kind(samples) for name, samples in folders.items()}
        said = {name: sorted(_positive(samples, key)) for name, samples in folders.items()}
        self._pools = {name: _pools(kind, kinds, said) for name, kind in kinds.items()}

    def sentence(self, folder: str, name: str, *of: str | int) -> str:
        """Return a sentence for the sample called `name` of a folder, which its name and `of` alone decide."""
        pools = self._pools[folder]
        pool = pools[derive("whose", name, *of) % len(pools)]
        return pool[derive("which", name, *of) % len(pool)]

    def sentences(self) -> list[str]:
        """Return every sentence that may be drawn."""
        return sorted({text for pools in self._pools.values() for pool in pools for text in pool})


def _pools(own: frozenset[str], kinds: dict[str, frozenset[str]], said: dict[str, list[str]]) -> list[list[str]]:
    others = [said[name] for name, kind in kinds.items() if said[name] and kind and not kind & own]
    return [*others, [text for text in OBJECTS if not words(text) & own]]


def words(text: str) -> frozenset[str]:
    """Return the words of a sentence that tell what it is about, in small letters and without a plural s."""
    found = re.findall(r"[a-z]+", text.lower())
    return frozenset(word.removesuffix("s") for word in found if word not in TELLS_NOTHING)


def _kind(samples: Sequence[Sample]) -> frozenset[str]:
    spoken = (text for one in samples for text in sentences(one, PHRASE if PHRASE in one.prompts else RANDOM))
    return frozenset().union(*map(words, spoken))


def _positive(samples: Sequence[Sample], key: str) -> set[str]:
    spoken = (sample for sample in samples if key == RANDOM or key in sample.prompts)
    texts = {text for sample in spoken for text in sentences(sample, key)}
    return {text for text in texts if words(text) and not text.lower().startswith("no ")}
