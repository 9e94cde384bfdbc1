"""The parts of TuneVLSeg's prompt learners (arXiv 2410.05239): contexts, how the two towers share them, where they go.

Letters: D prompt depth, T prompt tokens, W text width, V vision width.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers.models.clipseg.modeling_clipseg import CLIPSegEncoderLayer

from .image_vector import seen

Side = Literal["text", "vision"]
Blend = Literal["mix", "add", "unused"]
STD = 0.02


def draw(depth: int, tokens: int, width: int) -> nn.Parameter:
    """Return new contexts (D, T, width), normal with deviation 0.02."""
    return nn.Parameter(torch.randn(depth, tokens, width) * STD)


def projection(
    width: int, out: int, intermediate: int | None, low_rank: bool, norm: bool, norm_bias: bool = True
) -> nn.Module:
    """Return a map of the last axis from `width` to `out`.

    `intermediate` None is one plain linear; otherwise an MLP, or with `low_rank` two linears without non-linearity.
    `norm` replaces the last bias by a LayerNorm, whose own bias `norm_bias` may leave out.
    """
    if intermediate is None:
        return nn.Linear(width, out)
    last = nn.Linear(intermediate, out, bias=not norm)
    if low_rank:
        parts: list[nn.Module] = [nn.Linear(width, min(intermediate, out), bias=False)]
        parts += [last] if intermediate <= out else []
    else:
        first = nn.Linear(width, intermediate)
        nn.init.kaiming_normal_(first.weight)
        parts = [first, nn.ReLU(), last]
    return nn.Sequential(*parts, *([nn.LayerNorm(out, bias=norm_bias)] if norm else []))


class Mapped(nn.Module):
    """Contexts, and for each tower that is prompted the maps from them to its rows (CoOp, VPT, MaPLe, Shared Separate).

    A side without maps is not prompted; one map serves every depth, as many as D serve one each.
    """

    def __init__(self, contexts: nn.Parameter, text: Sequence[nn.Module] = (), vision: Sequence[nn.Module] = ()):
        super().__init__()
        self.contexts = contexts
        self.text, self.vision = nn.ModuleList(text), nn.ModuleList(vision)

    @property
    def sides(self) -> set[Side]:
        """The towers that it prompts."""
        given: dict[Side, nn.ModuleList] = {"text": self.text, "vision": self.vision}
        return {side for side, maps in given.items() if len(maps)}

    def rows(self, side: Side, depth: int) -> Tensor:
        """Return the prompt rows (T, W or V) of a tower at one depth, counted from 0."""
        maps = self.text if side == "text" else self.vision
        return maps[depth % len(maps)](self.contexts[depth])


class Conditional(nn.Module):
    """Contexts for the text, and the maps from each image's vector to what is added to all T rows (CoCoOp)."""

    sides: set[Side] = {"text"}  # noqa: RUF012 - of the class, never changed

    def __init__(self, contexts: nn.Parameter, maps: Sequence[nn.Module], normalise: bool) -> None:
        """One map serves every depth, as many as D serve one each; `normalise` brings vectors to length 1 first."""
        super().__init__()
        self.contexts, self.normalise = contexts, normalise
        self.maps = nn.ModuleList(maps)

    def rows(self, side: Side, depth: int) -> Tensor:
        """Return the prompt rows (B, T, W) of the images that are `seen`, at one depth, counted from 0."""
        vectors = nn.functional.normalize(seen(), dim=-1) if self.normalise else seen()
        return self.contexts[depth] + self.maps[depth % len(self.maps)](vectors)[:, None]


class Attended(nn.Module):
    """Contexts as wide as both towers together, through one transformer layer for each depth (Shared Attention).

    As the paper means it, the T tokens attend to each other; `released` repeats the published code, which leaves
    `batch_first` off, so that each token is a sequence of its own and sees none of the others. The layer runs once for
    each tower, so with dropout the two halves draw their own.
    """

    sides: set[Side] = {"text", "vision"}  # noqa: RUF012 - of the class, never changed

    def __init__(self, contexts: nn.Parameter, text_width: int, released: bool, **layer: Any) -> None:
        """`layer` is what `nn.TransformerEncoderLayer` takes: nhead, dim_feedforward, dropout, norm_first."""
        super().__init__()
        depth, _, width = contexts.shape
        self.contexts, self.text_width = contexts, text_width
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, batch_first=not released, **layer) for _ in range(depth)
        )

    def rows(self, side: Side, depth: int) -> Tensor:
        """Return the prompt rows (T, W or V) of a tower at one depth, counted from 0."""
        both = self.layers[depth](self.contexts[depth][None])[0]
        return both[:, : self.text_width] if side == "text" else both[:, self.text_width :]


class Place(nn.Module):
    """Where the prompt rows of one depth enter one tower.

    The learner belongs to the model, not to its places, so it is kept here unregistered; a copy of the whole model
    copies both and they stay together.
    """

    def __init__(self, learner: Any, side: Side, depth: int) -> None:
        super().__init__()
        self.side: Side = side
        self.depth = depth
        self.tokens: int = learner.contexts.shape[1]
        self._learner = [learner]
        self.register_buffer("fixed", None, persistent=False)
        self.fixed: Tensor | None

    @torch.no_grad()
    def fix(self) -> None:
        """Keep the rows as they are now, and let go of the learner."""
        self.fixed = self._learner.pop().rows(self.side, self.depth).clone()

    def forward(self, states: Tensor) -> Tensor:
        """Return `states` with the rows in place: text (B, L, W) behind the begin token, vision (B, N, V) at the end.

        In vision, depth 0 appends T rows; all else overwrites.
        """
        rows = self._learner[0].rows(self.side, self.depth) if self.fixed is None else self.fixed
        rows = rows.to(states.dtype).expand(states.shape[0], -1, -1)
        if self.side == "text":
            # by index and not by slices, whose lengths an export would take for constants
            place = torch.arange(states.shape[1], device=states.device)
            inside = (place > 0) & (place <= self.tokens)
            return torch.where(inside[:, None], rows[:, (place - 1).clamp(0, self.tokens - 1)], states)
        kept = states if self.depth == 0 else states[:, : -self.tokens]
        return torch.cat([kept, rows], dim=1)


class PromptedLayer(CLIPSegEncoderLayer):
    """An encoder layer that stands in for another, with a place on its output.

    It is of the library's class, and not a wrapper, since the library records the states of that class alone: what it
    records already has the rows, as published.
    """

    def __init__(self, layer: CLIPSegEncoderLayer, place: Place) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(layer.__dict__)  # its sub-modules under their names, and its hooks
        self.place = place

    def forward(self, hidden_states: Tensor, attention_mask: Tensor, **kwargs: Any) -> Tensor:
        """Return what the layer returns, (B, N, D), with the prompt rows of the next depth."""
        return self.place(super().forward(hidden_states, attention_mask, **kwargs))


class Upsampler(nn.Module):
    """TuneVLSeg's learnable upsampler beside the pretrained one: (1 - r) * pretrained + r * new, r learned from 0.5.

    The released code adds the two for VPT ("add"), and never calls the new one for CoOp ("unused").
    """

    def __init__(self, pretrained: nn.Module, width: int, scale: int, blend: Blend = "mix") -> None:
        super().__init__()
        self.pretrained = pretrained
        self.conv = nn.Conv2d(width, 1, 5, padding="same", padding_mode="replicate")
        self.ratio = nn.Parameter(torch.tensor(0.5))
        self.scale, self.blend = scale, blend

    def forward(self, picture: Tensor) -> Tensor:
        """Return logits (B, 1, S, S) from the decoder's map (B, R, S / scale, S / scale)."""
        old = self.pretrained(picture)
        if self.blend == "unused":
            return old
        large = nn.functional.interpolate(picture, scale_factor=self.scale, mode="bilinear", align_corners=False)
        new = self.conv(large)
        return old + new if self.blend == "add" else (1 - self.ratio) * old + self.ratio * new
