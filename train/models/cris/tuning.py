"""The ways to tune CRIS: whole, as VLSM-Adapter's baseline (arXiv 2405.06196), or by learned words (TuneVLSeg)."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from ....deploy.errors import UserError
from ..grafts import graft
from ..prompts import Conditional, Mapped, Place
from ..tunevlseg import CocoopOptions, CoopOptions, depth_within, make_room, projections, text_contexts
from .cris import Cris
from .projector import CrisUpsampler
from .sizes import CrisSize


@dataclass(frozen=True)
class FullOptions:
    """Options of training all of CRIS."""

    dropout: float | None = None
    """Dropout of the decoder; None: the size's, as published."""
    fidelity: Literal["paper", "released"] = "paper"
    """released: padding takes part in the decoder's attention, as in the published code."""

    def __post_init__(self) -> None:
        """Refuse values that no CRIS can have; UserError names the option, the value and the range."""
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise UserError(f"dropout = {self.dropout} is out of range: expected 0 to below 1")
        if self.fidelity not in ("paper", "released"):
            raise UserError(f"fidelity = {self.fidelity!r} is not known: expected paper or released")


def full(model: Cris, size: CrisSize, options: FullOptions) -> None:
    """Train everything."""
    model.requires_grad_(True)
    model.padding_counts = options.fidelity == "released"
    if options.dropout is not None:
        _set_dropout(model, options.dropout)


def coop(model: Cris, size: CrisSize, options: CoopOptions) -> None:
    """Learn words (CoOp, arXiv 2109.01134): contexts before those of the sentence."""
    depth = depth_within(model, options, size.text_layers, size.text_layers)
    learner = Mapped(text_contexts(model, depth, options), text=[nn.Identity()])
    plant(model, learner, options)


def cocoop(model: Cris, size: CrisSize, options: CocoopOptions) -> None:
    """Learn words that depend on the image (CoCoOp, arXiv 2203.05557): to each context, a map of the image's vector."""
    depth = depth_within(model, options, size.text_layers, size.text_layers)
    contexts = text_contexts(model, depth, options)
    maps = projections(size.embed, size.text_width, depth, options, norm_bias=False)
    model.text_depends_on_image = True
    plant(model, Conditional(contexts, maps, options.normalise), options)


def plant(model: Cris, learner: Any, options: CoopOptions) -> None:
    """Register the learner once and set its places in the text transformer.

    Depth 0 is the input and depth k what block k (counted from 1) returns. The released code is off by one: depth k is
    what block k + 1 returns, so that depth 0 is set twice.
    """
    depth, tokens, _ = learner.contexts.shape
    make_room(model, tokens)
    model.learner = learner
    graft(model, "clip.token_embedding", Place(learner, "text", 0))
    late = options.fidelity == "released"
    for k in range(0 if late else 1, depth):
        graft(model, f"clip.transformer.resblocks.{k if late else k - 1}", Place(learner, "text", k))
    if options.upsampler:
        model.upsampler = CrisUpsampler(model.size.text_width)


def _set_dropout(model: Cris, dropout: float) -> None:
    for module in model.decoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = dropout
