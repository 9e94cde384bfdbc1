"""From a trained model to one that is fit for an engine: a folded copy, and a word on each thing that was done."""

import copy
from collections.abc import Collection
from dataclasses import dataclass

from torch import nn

from ..train.models.clipseg import Clipseg
from ..train.models.fold import fold
from .attention import fold_layer
from .rows import OnRows
from .stages import DecoderStage, ImageStage, TextStage
from .tail import TailedImageStage, can_fold


@dataclass(frozen=True)
class Prepared:
    """The folded stages of a model, its image side and tokenizer, and what was folded, a phrase each."""

    image: nn.Module
    text: nn.Module
    decoder: nn.Module
    model: Clipseg
    done: list[str]


def prepare(model: Clipseg, down: Collection[str] = ()) -> Prepared:
    """Return folded stages of a copy of `model`; `down` names the sites whose down-projection is folded."""
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    # the additive mask, which the folded attention reads
    folded.library.set_attn_implementation("eager")
    done = fold(folded, down)
    layers = [*folded.vision.encoder.layers, *folded.text.encoder.layers, *folded.library.decoder.layers]
    for layer in layers:
        fold_layer(layer)
    done.append(f"key and value biases, scale and QuickGELU of {len(layers)} layers")
    reduces = folded.library.decoder.reduces
    if can_fold(folded):
        done.append("the last image layer's second product into its reduction")
        image = TailedImageStage(folded)
    else:
        image = ImageStage(folded)
    for i, reduce in enumerate(reduces):
        reduces[i] = OnRows(reduce)
    return Prepared(image, TextStage(folded), DecoderStage(folded), folded, done)
