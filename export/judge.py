"""What fewer bits cost in masks: changed parts are run on pictures whose float masks are known, group by group."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..deploy.engine import Arrays, Engine
from ..deploy.parity import LIMITS
from ..deploy.pixels import to_mask, to_probability
from ..deploy.segmenter import Segmenter

Tell = Callable[[str], None]
Picture = tuple[np.ndarray, str]
Key = tuple[str, str]
"""A part and a group of its layers."""

SHARE = 0.33
"""Of what the certificate allows, a choice may use this much: other pictures will be worse."""


@dataclass(frozen=True)
class Cost:
    """What a change costs: the least Dice between both masks, and the largest share of pixels that change sides."""

    dice: float
    flipped: float

    @property
    def figures(self) -> dict[str, float]:
        """As a manifest has it."""
        return {"dice": round(self.dice, 6), "flipped": round(self.flipped, 8)}


NO_ANSWER = Cost(0.0, 1.0)


def fine(cost: Cost, precision: str) -> bool:
    """Does a cost use no more than `SHARE` of what the certificate of a precision allows?"""
    limit = LIMITS[precision]
    return 1 - cost.dice <= SHARE * (1 - limit.dice) and cost.flipped <= SHARE * limit.flipped


def choose(costs: Mapping[Key, Cost], cost_of: Callable[[list[Key]], Cost], precision: str) -> list[Key]:
    """Return the groups that may have fewer bits: none that hurts by itself, and together no more than they may.

    Where all that are left cost too much together, those that cost most by themselves leave.
    """
    kept = [key for key, cost in costs.items() if fine(cost, precision)]
    kept.sort(key=lambda key: (costs[key].flipped, 1 - costs[key].dice))
    most = most_of(len(kept), lambda count: fine(cost_of(kept[:count]), precision))
    return [key for key in costs if key in kept[:most]]


def most_of(count: int, good: Callable[[int], bool]) -> int:
    """Return how many may be taken, 0 to `count`, by halving: what is good with some is taken to be so with fewer."""
    low, high = 0, count
    while low < high:
        middle = (low + high + 1) // 2 if low or high < count else high
        low, high = (middle, high) if good(middle) else (low, middle - 1)
    return low


class Judge:
    """A float model that has answered some pictures, to hold changed parts against."""

    def __init__(self, model: Segmenter, pictures: Sequence[Picture]) -> None:
        self._model, self.manifest = model, model.manifest
        inputs = [model.inputs_of_parts(image, prompt) for image, prompt in pictures]
        self.running = list(inputs[0])
        self.rows = [self._answer(one) for one in inputs]
        self._masks = [self._mask(row["logits"]) for row in self.rows]

    def feeds(self, part: str) -> list[Arrays]:
        """Return what a part was given, once for each different thing: a picture, or a sentence."""
        names = self._model.flow.inputs[part]
        given = [{name: row[name] for name in names} for row in self.rows]
        return list({tuple(array.tobytes() for array in feed.values()): feed for feed in given}.values())

    def cost(self, changed: Mapping[str, Engine]) -> Cost:
        """Return what the masks lose when engines replace these parts; `NO_ANSWER` where one answers with NaN."""
        logits = [self._again(row, changed) for row in self.rows]
        if not all(np.isfinite(one).all() for one in logits):
            return NO_ANSWER
        pairs = list(zip(map(self._mask, logits), self._masks, strict=True))
        limit = LIMITS[self.manifest.precision]
        return Cost(min(limit.dice_of(*pair) for pair in pairs), max(float((a != b).mean()) for a, b in pairs))

    def _answer(self, inputs: Mapping[str, Arrays]) -> Arrays:
        row = {name: array for part in self.running for name, array in inputs[part].items()}
        return {**row, **self._model.run_part("decoder", inputs["decoder"])}

    def _again(self, row: Arrays, engines: Mapping[str, Engine]) -> np.ndarray:
        """Return logits with changed parts; a part runs only where it, or something that it reads, was changed."""
        made, new, flow = dict(row), set(), self._model.flow
        for part in self.running:
            if part in engines or new.intersection(flow.inputs[part]):
                given = {name: made[name] for name in flow.inputs[part]}
                # not through the segmenter, which refuses NaN
                made.update((engines[part] if part in engines else self._model.engine_of(part)).run(given))
                new.update(flow.outputs[part])
        return made["logits"]

    def _mask(self, logits: np.ndarray) -> np.ndarray:
        side = self.manifest.image_size
        return to_mask(to_probability(logits[0, 0].astype(np.float32), side, side), self.manifest.threshold)
