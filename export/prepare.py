"""From a trained model to one that is fit for an engine: a folded copy, and a word on each thing that was done."""

import copy
from collections.abc import Collection
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

from torch import nn

from ..train.models.clipseg import Clipseg
from ..train.models.cris.cris import Cris
from ..train.models.fold import fold
from ..train.models.lora import merge
from ..train.models.parts import facts_of, parts_of
from ..train.models.promptable import Promptable
from ..train.models.sam.sam import Sam
from ..train.models.san.san import San
from .attention import fold_layer
from .rows import OnRows
from .sam import fold_sam
from .sam_text import fold_known_text
from .tail import TailedImagePart, can_fold


@dataclass(frozen=True)
class Prepared:
    """The folded parts of a model by name, the model they are of, and what was folded, a phrase each."""

    parts: dict[str, nn.Module]
    model: Promptable
    done: list[str]

    @property
    def flow(self) -> dict[str, Any]:
        """The names of each part's inputs and outputs."""
        return facts_of(self.model)["flow"]


def prepare(model: Promptable, down: Collection[str] = (), *, constant_text: bool = False) -> Prepared:
    """Return folded parts of a copy of `model`; `down` names the sites whose down-projection is folded.

    With `constant_text` the text part will be run at export alone, and what the image part makes of text is folded too.
    """
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    known = fold_known_text(folded) if constant_text and isinstance(folded, Sam) else []
    parts, done = fold_parts(folded, down)
    return Prepared(parts, folded, [*known, *done])


@singledispatch
def fold_parts(model: Promptable, down: Collection[str]) -> tuple[dict[str, nn.Module], list[str]]:
    """Fold `model` in place, each backbone in its own way; return its parts, and what was done.

    A backbone that has no way of its own leaves as it is.
    """
    return dict(parts_of(model)), []


@fold_parts.register
def _(model: Clipseg, down: Collection[str]) -> tuple[dict[str, nn.Module], list[str]]:
    # the additive mask, which the folded attention reads
    model.library.set_attn_implementation("eager")
    done = fold(model, down)
    layers = [*model.encoder_layers, *model.library.decoder.layers]
    for layer in layers:
        fold_layer(layer)
    done.append(f"key and value biases, scale and QuickGELU of {len(layers)} layers")
    parts: dict[str, nn.Module] = dict(parts_of(model))
    if can_fold(model):
        done.append("the last image layer's second product into its reduction")
        parts["image"] = TailedImagePart(model)
    reduces = model.library.decoder.reduces
    for i, reduce in enumerate(reduces):
        reduces[i] = OnRows(reduce)
    return parts, done


@fold_parts.register
def _(model: San, down: Collection[str]) -> tuple[dict[str, nn.Module], list[str]]:
    # the additive mask, which the folded attention reads
    model.library.set_attn_implementation("eager")
    done = model.fold()
    layers = [*model.vision.encoder.layers, *model.recognition.layers, *model.text.encoder.layers]
    for layer in layers:
        fold_layer(layer)
    done.append(f"key and value biases, scale and QuickGELU of {len(layers)} layers")
    return dict(parts_of(model)), done


@fold_parts.register
def _(model: Cris, down: Collection[str]) -> tuple[dict[str, nn.Module], list[str]]:
    done = model.fold()
    return dict(parts_of(model)), done


@fold_parts.register
def _(model: Sam, down: Collection[str]) -> tuple[dict[str, nn.Module], list[str]]:
    done = [*merge(model), *fold_sam(model)]
    return dict(parts_of(model)), done
