"""VLSM-Adapter (Dhakal et al., MICCAI 2024, arXiv 2405.06196): where its adapters sit in CLIPSeg.

Figure 1: V vision, L language, C conditional; shallow adapters tap the extracted activations, dense ones sit on the
sub-layer outputs inside the encoders.
"""

from dataclasses import dataclass
from typing import Literal

from ...deploy.errors import UserError
from .adapters import Activation, Bottleneck
from .clipseg import Clipseg
from .grafts import graft
from .sizes import Size


@dataclass(frozen=True)
class AdapterOptions:
    """Options of the adapters; None means the size's published value."""

    rank: int | None = None
    """Hidden width of the vision and language adapters."""
    condition_rank: int | None = None
    """Hidden width of the conditional adapter."""
    first_layer: int = 0
    """Dense only: first encoder layer that gets adapters, counted from 0."""
    last_layer: int | None = None
    """Dense only: last encoder layer that gets adapters; None: one before the deepest extracted one, as published."""
    outer: Activation = "relu"
    """Activation behind the up-projection; the paper's is relu."""
    init: Literal["random", "zero"] = "random"
    """zero: start as the frozen model (needs outer = identity)."""


def shallow(model: Clipseg, size: Size, parts: str, options: AdapterOptions) -> None:
    """Put shallow adapters on the taps that `parts` (of the letters v, l, c) names."""
    make = _maker(options, _or(options.rank, size.shallow_rank))
    taps = range(len(model.extract))
    if "v" in parts:
        for tap in taps:
            model.vision_taps[tap] = make(_width(model.vision))
    if "l" in parts:
        model.text_taps.extend(make(_width(model.text)) for _ in taps)
    if "c" in parts:
        _condition(model, size, options)


def dense(model: Clipseg, size: Size, parts: str, options: AdapterOptions) -> None:
    """Put two dense adapters into every chosen layer of the encoders that `parts` (of v, l, c) names."""
    make = _maker(options, _or(options.rank, size.dense_rank))
    # the published range ends one short of the deepest extracted layer, in both encoders
    last = max(model.extract) - 2 if options.last_layer is None else options.last_layer
    for letter, encoder in (("v", "vision_model"), ("l", "text_model")):
        if letter in parts:
            _fill(model, encoder, range(options.first_layer, last + 1), make)
    if "c" in parts:
        _condition(model, size, options)


def _fill(model: Clipseg, encoder: str, layers: range, make) -> None:
    tower = getattr(model.library.clip, encoder)
    depth = len(tower.encoder.layers)
    if not layers or layers[0] < 0 or layers[-1] >= depth:
        raise UserError(
            f"layers {layers.start} to {layers.stop - 1} are not within the {depth} layers of {encoder}: "
            f"choose first_layer and last_layer from 0 to {depth - 1}, in order"
        )
    for layer in layers:
        for sub_layer in ("self_attn", "mlp"):
            graft(model, f"library.clip.{encoder}.encoder.layers.{layer}.{sub_layer}", make(_width(tower)))


def _condition(model: Clipseg, size: Size, options: AdapterOptions) -> None:
    make = _maker(options, _or(options.condition_rank, size.condition_rank))
    model.condition = make(model.library.config.projection_dim)


def _or(chosen: int | None, published: int) -> int:
    return published if chosen is None else chosen


def _width(tower) -> int:
    return tower.config.hidden_size


def _maker(options: AdapterOptions, rank: int):
    if rank < 1:
        raise UserError(f"rank {rank} is not a width: expected 1 or more")
    zero = options.init == "zero"
    if zero and options.outer == "relu":
        raise UserError(
            "init = zero with outer = relu never learns (a ReLU at zero has no gradient): set outer=identity"
        )
    return lambda width: Bottleneck(width, rank, outer=options.outer, zero=zero)
