"""Sentences that give the answer away: words that say of a mask what was measured on it, or that tie two splits."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

TELLING = 0.25
"""Share of the variance from which words count as made from the mask."""
RARE_WORDS, RARE_SHARE = 8, 0.5
WORDS: dict[str, tuple[str, ...]] = {
    "size": ("tiny", "small", "medium", "big", "large", "huge"),
    "number": ("one", "single", "two", "three", "four", "five", "multiple", "several", "many"),
    "place": ("left", "right", "top", "bottom", "upper", "lower", "center", "centre", "middle", "corner", "mid"),
}


class Fact(NamedTuple):
    """What leaks are judged by: split, name, sentences by key, and of the mask its share, objects and centre (0..1)."""

    split: str
    name: str
    prompts: Mapping[str, str | list[str]]
    share: float
    objects: int
    centre: tuple[float, float]


MEASURED: dict[str, tuple[Callable[[Fact], float], ...]] = {
    "size": (lambda fact: float(np.log(fact.share)),),
    "number": (lambda fact: float(np.log(fact.objects)),),
    "place": (lambda fact: fact.centre[0], lambda fact: fact.centre[1]),
}


def find_leaks(facts: Sequence[Fact]) -> list[dict[str, Any]]:
    """Return, for each prompt key, what its sentences give away: `{key, what, share, example}`.

    `what` is "size", "number" or "place" (words of which explain the `share` of the variance, over the masks with
    objects, of what they speak of), "empty mask" (the `share` of empty masks whose sentence no other mask has), or
    "same text in two splits" (the `share` of samples outside train with a long sentence that one training sample has
    too, where sentences are mostly unlike each other, as in reports).
    """
    keys = sorted({key for fact in facts for key in fact.prompts}, key=lambda key: (len(key), key))
    found = []
    for key in keys:
        told = [(fact, _all(fact.prompts[key])) for fact in facts if key in fact.prompts]
        found += [_words_leak(key, what, told) for what in WORDS]
        found += [_empty_leak(key, told), _text_leak(key, told)]
    return [leak for leak in found if leak]


def explained(values: np.ndarray, labels: Sequence[Any]) -> float:
    """Return the share (0..1) of the variance of values (n,) that their labels explain (epsilon squared)."""
    groups = Counter(labels)
    spread = float(((values - values.mean()) ** 2).sum())
    if len(groups) < 2 or len(values) <= len(groups) or spread <= 1e-12:
        return 0.0
    index = np.asarray([list(groups).index(label) for label in labels])
    means = np.bincount(index, values) / np.bincount(index)
    within = float(((values - means[index]) ** 2).sum())
    return max(0.0, 1 - (within / (len(values) - len(groups))) / (spread / (len(values) - 1)))


Told = Sequence[tuple[Fact, str]]


def _all(prompt: str | list[str]) -> str:
    return prompt if isinstance(prompt, str) else " / ".join(prompt)


def _words_leak(key: str, what: str, told: Told) -> dict[str, Any] | None:
    told = [(fact, text) for fact, text in told if fact.objects]
    pattern = re.compile(rf"(?i)\b({'|'.join(WORDS[what])})\b")
    labels = [tuple(dict.fromkeys(word.lower() for word in pattern.findall(text))) for _, text in told]
    if not any(labels):
        return None
    shares = [explained(np.array([measure(fact) for fact, _ in told]), labels) for measure in MEASURED[what]]
    if max(shares) < TELLING:
        return None
    return _leak(key, what, max(shares), next(text for (_, text), label in zip(told, labels, strict=True) if label))


def _empty_leak(key: str, told: Told) -> dict[str, Any] | None:
    full = {text for fact, text in told if fact.objects}
    empty = [text for fact, text in told if not fact.objects]
    only = [text for text in empty if text and text not in full]
    return _leak(key, "empty mask", len(only) / len(empty), only[0]) if only and full else None


def _text_leak(key: str, told: Told) -> dict[str, Any] | None:
    train = Counter(text for fact, text in told if fact.split == "train")
    others = [text for fact, text in told if fact.split != "train"]
    if not others or len(train) < RARE_SHARE * train.total():
        return None
    same = [text for text in others if train[text] == 1 and len(text.split()) >= RARE_WORDS]
    return _leak(key, "same text in two splits", len(same) / len(others), same[0]) if same else None


def _leak(key: str, what: str, share: float, example: str) -> dict[str, Any]:
    return {"key": key, "what": what, "share": round(share, 3), "example": example.split(" / ")[0]}
