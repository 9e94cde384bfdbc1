"""TuneVLSeg (Adhikari et al., ACCV 2024, arXiv 2410.05239): prompt learners on CLIPSeg, and their options.

A method makes one learner, `model.learner`, and places that put its rows into the towers at every depth: depth 0 among
the embeddings, depth k on what encoder layer k (counted from 1) returns.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...deploy.errors import UserError
from .backbone import weights_hash
from .clipseg import Clipseg
from .grafts import graft
from .promptable import Promptable
from .prompts import Attended, Blend, Conditional, Mapped, Place, PromptedLayer, Side, Upsampler, draw, projection
from .sizes import Size

PUBLISHED_DEPTH = 11
PUBLISHED_TOKENS = 4


@dataclass(frozen=True)
class PromptOptions:
    """Options of every prompt learner."""

    depth: int | None = None
    """How many layers get prompts of their own, from 1 on; None: 11, or as many as the model reads."""
    tokens: int | None = None
    """Prompt tokens at each depth; None: those of the phrase, or 4."""
    upsampler: bool = False
    """Train the learnable upsampler too."""
    fidelity: Literal["paper", "released"] = "paper"
    """released: repeat the published code's defects (attention between no prompts, upsampler added or unused)."""

    def __post_init__(self) -> None:
        """Refuse values that no learner can have; UserError names the option, the value and the range."""
        for key, value in vars(self).items():
            if key in ("depth", "tokens", "intermediate", "heads", "feed_forward", "shared") and value is not None:
                _whole(key, value)
        if self.fidelity not in ("paper", "released"):
            raise UserError(f"fidelity = {self.fidelity!r} is not known: expected paper or released")


@dataclass(frozen=True)
class CoopOptions(PromptOptions):
    """Options of context optimisation."""

    phrase: str | None = None
    """Words whose embeddings depth 0 starts from; None: random."""


@dataclass(frozen=True)
class ProjectedOptions(CoopOptions):
    """Options of learners with a projection at each depth."""

    intermediate: int | None = 64
    """Hidden width of the projections; None: one plain linear."""
    low_rank: bool = False
    """Projections of two linears without non-linearity."""
    unified: bool = False
    """One projection for all depths."""
    norm: bool = True
    """End the projections with a LayerNorm instead of a bias."""


@dataclass(frozen=True)
class MapleOptions(ProjectedOptions):
    """Options of multi-modal prompt learning: how a visual prompt is made from its textual one."""


@dataclass(frozen=True)
class CocoopOptions(ProjectedOptions):
    """Options of conditional context optimisation: how an image's vector becomes what is added to its prompts."""

    normalise: bool = False
    """Bring the image's vector to length 1 first."""


@dataclass(frozen=True)
class AttentionOptions(PromptOptions):
    """Options of Shared Attention: its transformer layers."""

    heads: int = 16
    """Attention heads; they must divide the width of both towers together."""
    feed_forward: int | None = None
    """Hidden width of the feed-forward part; None: six fifths of the width, which is the published 1536."""
    dropout: float = 0.25
    """Dropout in the layer while it trains."""
    norm_first: bool = True
    """LayerNorms before attention and feed-forward part, not behind them."""


@dataclass(frozen=True)
class SeparateOptions(PromptOptions):
    """Options of Shared Separate: a space that both towers' prompts are projected from."""

    shared: int = 64
    """Width of the shared space."""
    intermediate: int | None = None
    """Hidden width of the projections; None: one plain linear."""
    low_rank: bool = False
    """Projections of two linears without non-linearity (needs an intermediate width)."""
    unified: bool = False
    """One projection for all depths."""
    norm: bool = True
    """End the projections with a LayerNorm instead of a bias (needs an intermediate width)."""


def coop(model: Clipseg, size: Size, options: CoopOptions) -> None:
    """Learn words (CoOp, arXiv 2109.01134): contexts before those of the sentence."""
    contexts = text_contexts(model, _depth(model, options, {"text"}), options)
    _plant(model, Mapped(contexts, text=[nn.Identity()]), options, released="unused")


def cocoop(model: Clipseg, size: Size, options: CocoopOptions) -> None:
    """Learn words that depend on the image (CoCoOp, arXiv 2203.05557): to each context, a map of the image's vector.

    The vector is CLIP's own of the whole image (see `ImageVector`), so the rest of the image encoder stays.
    """
    depth = _depth(model, options, {"text"})
    contexts = text_contexts(model, depth, options)
    maps = projections(model.library.config.projection_dim, contexts.shape[-1], depth, options, norm_bias=False)
    model.text_depends_on_image = True
    model.weights_hash = weights_hash(model)
    _plant(model, Conditional(contexts, maps, options.normalise), options, released="unused")


def vpt(model: Clipseg, size: Size, options: PromptOptions) -> None:
    """Learn patches (VPT, arXiv 2203.12119): contexts behind those of the image."""
    contexts = draw(_depth(model, options, {"vision"}), _tokens(options), _vision_width(model))
    _plant(model, Mapped(contexts, vision=[nn.Identity()]), options, released="add")


def maple(model: Clipseg, size: Size, options: MapleOptions) -> None:
    """Learn words, and project them to patches (MaPLe, arXiv 2210.03117)."""
    depth = _depth(model, options, {"text", "vision"})
    contexts = text_contexts(model, depth, options)
    vision = projections(contexts.shape[-1], _vision_width(model), depth, options)
    _plant(model, Mapped(contexts, [nn.Identity()], vision), options)


def shared_attention(model: Clipseg, size: Size, options: AttentionOptions) -> None:
    """Learn both at once, coupled by a transformer layer at each depth (TuneVLSeg, Shared Attention)."""
    width = _text_width(model) + _vision_width(model)
    if width % options.heads:
        raise UserError(f"heads = {options.heads} does not divide the width {width} of both towers: choose a divisor")
    if not 0 <= options.dropout < 1:
        raise UserError(f"dropout = {options.dropout} is out of range: expected 0 to below 1")
    contexts = draw(_depth(model, options, {"text", "vision"}), _tokens(options), width)
    learner = Attended(
        contexts,
        _text_width(model),
        released=options.fidelity == "released",
        nhead=options.heads,
        dim_feedforward=options.feed_forward or width * 6 // 5,
        dropout=options.dropout,
        norm_first=options.norm_first,
    )
    _plant(model, learner, options)


def shared_separate(model: Clipseg, size: Size, options: SeparateOptions) -> None:
    """Learn prompts in a shared space, and project them into both towers (TuneVLSeg, Shared Separate)."""
    depth = _depth(model, options, {"text", "vision"})
    contexts = draw(depth, _tokens(options), options.shared)
    text, vision = (
        projections(options.shared, out, depth, options) for out in (_text_width(model), _vision_width(model))
    )
    _plant(model, Mapped(contexts, text, vision), options)


def add_upsampler(model: Clipseg, blend: Blend = "mix") -> None:
    """Put the learnable upsampler beside the decoder's own."""
    decoder = model.library.decoder
    width = model.library.config.reduce_dim
    decoder.transposed_convolution = Upsampler(decoder.transposed_convolution, width, model.patch_size, blend)


def _plant(model: Clipseg, learner: Any, options: PromptOptions, released: Blend = "mix") -> None:
    """Register the learner once and set its places; `released` is what the published code does with an upsampler."""
    depth, tokens, _ = learner.contexts.shape
    model.learner = learner
    if "text" in learner.sides:
        make_room(model, tokens)
        graft(model, "library.clip.text_model.embeddings.token_embedding", Place(learner, "text", 0))
        _prompt_layers(model.text, learner, "text", depth)
    if "vision" in learner.sides:
        graft(model, "library.clip.vision_model.embeddings", Place(learner, "vision", 0))
        _prompt_layers(model.vision, learner, "vision", depth)
        if depth > (last := len(model.vision.encoder.layers)):
            # behind the deepest layer that runs, only its activation is read; a depth beyond that reaches nothing
            model.vision_taps[-1] = Place(learner, "vision", last)
    if options.upsampler:
        add_upsampler(model, released if options.fidelity == "released" else "mix")


def make_room(model: Any, tokens: int) -> None:
    """Take places from the sentence for prompt tokens; UserError where begin, end and one word would have none left."""
    room = model.tokenizer.context - 3
    if tokens > room:
        raise UserError(f"the prompt has {tokens} tokens, the context has room for {room}: shorten it")
    model.text_prompts, model.tokenizer = tokens, model.tokenizer.cut_to(model.tokenizer.context - tokens)


def _prompt_layers(tower: Any, learner: Any, side: Side, depth: int) -> None:
    layers = tower.encoder.layers
    for k in range(1, min(depth, len(layers))):
        layers[k - 1] = PromptedLayer(layers[k - 1], Place(learner, side, k))


def _depth(model: Clipseg, options: PromptOptions, sides: set[Side]) -> int:
    """Return the prompt depth; UserError where the towers have fewer layers."""
    config = model.library.config
    whole = {"text": config.text_config.num_hidden_layers, "vision": config.vision_config.num_hidden_layers}
    # the image encoder stops after the deepest extracted layer, whose output is the last that a prompt can enter
    read = {"text": len(model.text.encoder.layers), "vision": len(model.vision.encoder.layers) + 1}
    most = min(whole[side] for side in sides)
    return depth_within(model, options, most, min(most, *(read[side] for side in sides)))


def depth_within(model: Promptable, options: PromptOptions, most: int, reach: int) -> int:
    """Return the chosen depth, at most `most`, or the published one as far as prompts still `reach` the mask."""
    if options.depth is None:
        return min(PUBLISHED_DEPTH, reach)
    if options.depth > most:
        raise UserError(
            f"depth = {options.depth} is out of range: {model.backbone} takes prompts at 1 to {most} depths"
        )
    return options.depth


def _tokens(options: PromptOptions) -> int:
    return PUBLISHED_TOKENS if options.tokens is None else options.tokens


def text_contexts(model: Any, depth: int, options: CoopOptions) -> nn.Parameter:
    """Return contexts for the text tower, depth 0 beginning with the phrase where there is one.

    `model.word_table` holds the embeddings of its words.
    """
    words = _embedded(model, options.phrase)
    tokens = (len(words) or PUBLISHED_TOKENS) if options.tokens is None else options.tokens
    if len(words) > tokens:
        raise UserError(f"the phrase {options.phrase!r} has {len(words)} tokens, tokens is {tokens}: raise or omit it")
    contexts = draw(depth, tokens, words.shape[1])
    with torch.no_grad():
        contexts[0, : len(words)] = words
    return contexts


def _embedded(model: Any, phrase: str | None) -> Tensor:
    """Return the token embeddings (n, W) of a phrase, without begin, end and positions; n is 0 for None."""
    weight: Tensor = model.word_table
    if phrase is None:
        return weight[:0]
    ids, _ = model.tokenizer([phrase])
    words = torch.from_numpy(ids[0, 1:-1]).to(weight.device)
    if not len(words):
        raise UserError(f"the phrase {phrase!r} has no tokens: give at least one word, or leave it out")
    return weight[words]


def projections(
    width: int, out: int, depth: int, options: ProjectedOptions | SeparateOptions, norm_bias: bool = True
) -> list[nn.Module]:
    """Return the maps from `width` to `out`, one for each depth or one for all."""
    shape = width, out, options.intermediate, options.low_rank, options.norm, norm_bias
    return [projection(*shape) for _ in range(1 if options.unified else depth)]


def _text_width(model: Clipseg) -> int:
    return model.text.config.hidden_size


def _vision_width(model: Clipseg) -> int:
    return model.vision.config.hidden_size


def _whole(key: str, value: Any) -> None:
    if type(value) is not int or value < 1:
        raise UserError(f"{key} = {value!r} is not a count: expected a whole number from 1 on")
