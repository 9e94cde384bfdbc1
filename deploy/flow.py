"""How the parts of a model feed each other: tensors by name, the order of the parts, what an answer depends on."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from graphlib import CycleError, TopologicalSorter

from .errors import BundleError

ENCODERS = ("image", "text")
PARTS = (*ENCODERS, "decoder")
GIVEN = {"pixel_values": "picture", "input_ids": "prompt", "attention_mask": "prompt"}
"""What comes from outside, and what it is made from."""

Ends = Mapping[str, Mapping[str, Sequence[str]]]
TWO_TOWERS: dict[str, dict[str, list[str]]] = {
    "image": {"inputs": ["pixel_values"], "outputs": ["image_embedding"]},
    "text": {"inputs": ["input_ids", "attention_mask"], "outputs": ["text_embedding"]},
    "decoder": {"inputs": ["image_embedding", "text_embedding"], "outputs": ["logits"]},
}
"""The usual flow: picture and prompt are encoded apart, and meet in the decoder."""


class Flow:
    """The parts of one model, each with the names of its inputs and outputs."""

    def __init__(self, ends: Ends) -> None:
        """Take `inputs` and `outputs` of each part.

        Raises:
            BundleError: other parts than image, text and decoder, a decoder without logits, an input that nothing
                makes, an output that two parts make, or parts that wait for each other.
        """
        if set(ends) != set(PARTS) or any(set(one) != {"inputs", "outputs"} for one in ends.values()):
            raise BundleError(f"expected inputs and outputs of {', '.join(PARTS)}")
        self.inputs = {part: tuple(ends[part]["inputs"]) for part in PARTS}
        self.outputs = {part: tuple(ends[part]["outputs"]) for part in PARTS}
        self._maker = {name: part for part in ENCODERS for name in self.outputs[part]}
        self._check()

    @cached_property
    def order(self) -> tuple[str, ...]:
        """The parts, each behind those that it needs; the decoder comes last."""
        return (*TopologicalSorter({part: self._needs(part) for part in ENCODERS}).static_order(), "decoder")

    @cached_property
    def depends(self) -> dict[str, frozenset[str]]:
        """For each part, what its outputs depend on: `picture`, `prompt` or both."""
        found: dict[str, frozenset[str]] = {}
        for part in self.order:
            own = {GIVEN[name] for name in self.inputs[part] if name in GIVEN}
            found[part] = frozenset(own).union(*(found[one] for one in self._needs(part)))
        return found

    def _needs(self, part: str) -> list[str]:
        return list(dict.fromkeys(self._maker[name] for name in self.inputs[part] if name in self._maker))

    def _check(self) -> None:
        if self.outputs["decoder"] != ("logits",):
            raise BundleError(f"the decoder makes {', '.join(self.outputs['decoder'])}, expected logits")
        made = [name for part in PARTS for name in self.outputs[part]]
        if twice := sorted({name for name in made if made.count(name) > 1 or name in GIVEN}):
            raise BundleError(f"{twice[0]} is made twice")
        for part in PARTS:
            if lost := [name for name in self.inputs[part] if name not in self._maker and name not in GIVEN]:
                raise BundleError(f"the {part} part needs {lost[0]}, which no encoder makes")
        try:
            TopologicalSorter({part: self._needs(part) for part in ENCODERS}).prepare()
        except CycleError as error:
            raise BundleError(f"the parts {', '.join(dict.fromkeys(error.args[1]))} wait for each other") from error
