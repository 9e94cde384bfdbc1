"""Half precision with islands of float32: where half costs too much, kinds of layers are judged, and what hurts stays.

The float parts run beside parts that are half in one kind of layer alone, in torch on a CPU, on drawn pictures.
"""

import copy
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from ..deploy.engine import Arrays, Engine
from ..deploy.manifest import Manifest
from ..deploy.segmenter import Segmenter
from .judge import NO_ANSWER, Cost, Judge, Key, Picture, Tell, choose, fine
from .prepare import Prepared

REST = "the rest"
"""What is in no other kind: residual streams, embeddings, and all that is not called by itself."""
KINDS = {
    "norms": re.compile("Norm"),
    "attention": re.compile("Attention"),
    "mlp": re.compile("(?i)mlp"),
    "convolutions": re.compile("^Conv"),
}
"""Kinds of layers, by the names of their classes; an attention has its softmax inside."""
Groups = Mapping[str, Sequence[str]]
Chosen = tuple[Mapping[str, Callable[[], nn.Module]], list[dict[str, Any]]]
"""What makes each part anew, and a record for each kind of layer that was judged."""


class Mixed(nn.Module):
    """A part of which some kinds of layers are half and the others float32; its ends are float32."""

    def __init__(self, module: nn.Module, groups: Groups, half: Collection[str]) -> None:
        super().__init__()
        self.outer = torch.float16 if REST in half else torch.float32
        self.module = copy.deepcopy(module).to(self.outer)
        for kind, names in groups.items():
            inner = torch.float16 if kind in half else torch.float32
            for name in names if inner != self.outer else ():
                _island(self.module.get_submodule(name), module.get_submodule(name), inner, self.outer)

    def forward(self, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the part's outputs in float32."""
        return cast(self.module(*cast(given, self.outer)), torch.float32)


def cast(value: Any, dtype: torch.dtype) -> Any:
    """Return tensors of floating point, alone or in tuples, lists and dicts, in another dtype."""
    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, tuple | list):
        return type(value)(cast(one, dtype) for one in value)
    if isinstance(value, dict):
        return {key: cast(one, dtype) for key, one in value.items()}
    return value


def _island(module: nn.Module, original: nn.Module, inner: torch.dtype, outer: torch.dtype) -> None:
    """Let a module compute in `inner` amid `outer`, with the weights of its original, which were not rounded."""
    for own, its in zip(_tensors(module), _tensors(original), strict=True):
        own.data = its.detach().to(inner, copy=True)
    module.register_forward_pre_hook(lambda _, args, kwargs: (cast(args, inner), cast(kwargs, inner)), with_kwargs=True)
    module.register_forward_hook(lambda _, args, made: cast(made, outer))


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            yield tensor


def groups_of(part: nn.Module) -> dict[str, list[str]]:
    """Return the modules of each kind by their names in `part`; what lies in one of another kind is not looked at."""
    groups: dict[str, list[str]] = {kind: [] for kind in KINDS}
    inside: tuple[str, ...] = ()
    for name, module in part.named_modules():
        if name.startswith(inside) or not name:
            continue
        kind = next((kind for kind, pattern in KINDS.items() if pattern.search(type(module).__name__)), None)
        if kind is not None and next(_tensors(module), None) is not None:
            groups[kind].append(name)
            inside += (f"{name}.",)
    return {kind: names for kind, names in groups.items() if names}


class _Run(Engine):
    """A module as the engine of a part."""

    name = "torch"

    def __init__(self, module: nn.Module, outputs: Sequence[str]) -> None:
        self._module, self._outputs = module, outputs

    def run(self, inputs: Arrays) -> Arrays:
        """Return the outputs by name; the inputs come in the order of the part's."""
        return {name: one.numpy() for name, one in zip(self._outputs, _answers(self._module, inputs), strict=True)}

    def close(self) -> None:
        """Hold nothing."""


@torch.inference_mode()
def _answers(module: nn.Module, inputs: Arrays) -> tuple[torch.Tensor, ...]:
    return module(*(torch.from_numpy(np.ascontiguousarray(array)) for array in inputs.values()))


def too_dear(parity: Mapping[str, Any]) -> bool:
    """Does a certificate of half use more than a choice may, or not pass?"""
    by_mask = parity["judged_by"] == "masks"
    return not parity["passed"] or (by_mask and not fine(Cost(parity["dice_min"], parity["flipped_share"]), "fp16"))


def choose_halves(prepared: Prepared, manifest: Manifest, pictures: Sequence[Picture], tell: Tell) -> Chosen:
    """Return what makes each part with the kinds of layers in half that may be, and a record for each kind."""
    flow, judge = prepared.flow, _judge(prepared, manifest, pictures)
    parts = [part for part in judge.running if part != "text" or not manifest.fixed_prompts]
    groups = {part: _apart(prepared.parts[part], judge.feeds(part)[0], part, tell) for part in parts}

    def made(keys: Collection[Key]) -> dict[str, Callable[[], nn.Module]]:
        half = {part: {kind for one, kind in keys if one == part} for part in parts}
        return {part: partial(Mixed, prepared.parts[part], groups[part], half[part]) for part in parts}

    def cost(keys: Collection[Key]) -> Cost:
        changed = {part for part, _ in keys}
        return judge.cost({part: _Run(made(keys)[part](), flow[part]["outputs"]) for part in changed})

    keys = [(part, kind) for part in parts for kind in (*groups[part], REST)]
    costs = {key: cost([key]) for key in keys}
    kept = choose(costs, cost, manifest.precision)
    records = [_record(key, costs[key], key in kept) for key in keys]
    for one in records:
        how = "half" if one["half"] else "stays float32"
        tell(f"{one['part']} {one['group']}: least Dice {one['dice']:.4f}, {one['flipped']:.4%} flipped: {how}")
    return made(kept), records


def _judge(prepared: Prepared, manifest: Manifest, pictures: Sequence[Picture]) -> Judge:
    engines: dict[str, Engine] = {
        name: _Run(part, prepared.flow[name]["outputs"]) for name, part in prepared.parts.items()
    }
    open_ended = replace(manifest, fixed_prompts=[], axes={})
    return Judge(Segmenter(open_ended, engines, prepared.model.tokenizer), pictures)


def overflows(prepared: Prepared, manifest: Manifest, pictures: Sequence[Picture]) -> bool:
    """Does half answer with NaN? ONNX Runtime on a CPU does not tell, for it computes half in float32 and rounds."""
    half = {
        name: _Run(Mixed(part, {}, {REST}), prepared.flow[name]["outputs"])
        for name, part in prepared.parts.items()
        if name != "text" or not manifest.fixed_prompts
    }
    return _judge(prepared, manifest, pictures).cost(half) == NO_ANSWER


def _apart(module: nn.Module, feed: Arrays, part: str, tell: Tell) -> dict[str, list[str]]:
    """Return the kinds of layers that can have a precision of their own; others are counted with the rest, and told."""
    groups = groups_of(module)
    for kind in list(groups):
        try:
            for half in ({kind}, {*groups, REST} - {kind}):
                _answers(Mixed(module, groups, half), feed)
        except (RuntimeError, TypeError):  # its weights are read by other layers, which then meet two dtypes
            tell(f"{part} {kind} cannot be apart from its neighbours: judged with {REST}")
            del groups[kind]
    return groups


def _record(key: Key, cost: Cost, half: bool) -> dict[str, Any]:
    return {"part": key[0], "group": key[1], **cost.figures, "half": half}
