"""The fused operators as PyTorch knows them: custom operators with fake kernels and autograd.

Each operator is one opaque node to `torch.compile` and `torch.export`, forward and backward. Gradients are
deterministic: no atomics, sums in an order that shapes alone decide.
"""

import torch
from torch import Tensor

from . import bottleneck as launches
from . import fusion, pooling, text_side
from .forms import fusion_form, pooling_form
from .launch import compute_dtype, require_batch, require_fused, require_head, require_rank
from .reference import Attention, Norm


@torch.library.custom_op("vlseg::bottleneck", mutates_args=())
def bottleneck_op(
    x: Tensor,
    hidden: Tensor | None,
    residual: Tensor | None,
    down: Tensor | None,
    down_bias: Tensor | None,
    up: Tensor,
    up_bias: Tensor,
    scale: Tensor | None,
    norm_weight: Tensor | None,
    norm_bias: Tensor | None,
    inner: str,
    outer: str,
    eps: float,
    compute: torch.dtype,
) -> Tensor:
    """Launch the fused bottleneck; the arguments are those of `ops.bottleneck`."""
    weights = launches.Weights(down, down_bias, up, up_bias, scale, norm_weight, norm_bias)
    return launches.forward(x, hidden, residual, weights, launches.Kind(inner, outer, 1, eps, compute))


@bottleneck_op.register_fake
def _(x, hidden, residual, *_) -> Tensor:
    dtype = x.dtype if residual is None else torch.promote_types(x.dtype, residual.dtype)
    return torch.empty(x.shape, dtype=dtype, device=x.device)


@torch.library.custom_op("vlseg::bottleneck_backward", mutates_args=())
def bottleneck_backward_op(
    gradient: Tensor,
    x: Tensor,
    hidden: Tensor | None,
    down: Tensor | None,
    down_bias: Tensor | None,
    up: Tensor,
    up_bias: Tensor,
    scale: Tensor | None,
    norm_weight: Tensor | None,
    norm_bias: Tensor | None,
    inner: str,
    outer: str,
    eps: float,
    compute: torch.dtype,
    wanted: bool,
) -> tuple[Tensor, Tensor]:
    """Launch the fused backward: the gradient of `x` or `hidden`, and the weights' packed (`bottleneck.unpack`)."""
    weights = launches.Weights(down, down_bias, up, up_bias, scale, norm_weight, norm_bias)
    kind = launches.Kind(inner, outer, 1, eps, compute)
    return launches.backward(gradient, x, hidden, weights, kind, wanted)


@bottleneck_backward_op.register_fake
def _(
    gradient, x, hidden, down, down_bias, up, up_bias, scale, norm_weight, norm_bias, inner, outer, eps, compute, wanted
) -> tuple[Tensor, Tensor]:
    weights = launches.Weights(down, down_bias, up, up_bias, scale, norm_weight, norm_bias)
    target = x if hidden is None else hidden
    size = launches.packed_size(weights) if wanted else 0
    return target.new_empty(target.shape), up.new_empty((1, size))


def _save_bottleneck(ctx, inputs, output) -> None:
    """Keep the inputs for the backward, which computes the hidden again."""
    x, hidden, residual, *weights = inputs[:10]
    ctx.save_for_backward(x, hidden, *weights)
    ctx.rest = inputs[10:]
    ctx.residual_dtype = None if residual is None else residual.dtype


def _differentiate_bottleneck(ctx, gradient: Tensor) -> tuple:
    """Return the gradient of every argument of `bottleneck_op`."""
    x, hidden, *tensors = ctx.saved_tensors
    weights = launches.Weights(*tensors)
    wanted = any(ctx.needs_input_grad[3:10])
    target, packed = bottleneck_backward_op(gradient, x, hidden, *weights, *ctx.rest, wanted)
    grads: list[Tensor | None] = list(launches.unpack(packed, weights)) if wanted else [None] * 7
    grads = [g if g is None or w is None else g.to(w.dtype) for g, w in zip(grads, weights, strict=True)]
    through = gradient.to(x.dtype)
    dx, dhidden = (target, None) if hidden is None else (through, target)
    dresidual = None if ctx.residual_dtype is None else gradient.to(ctx.residual_dtype)
    return dx, dhidden, dresidual, *grads, None, None, None, None


bottleneck_op.register_autograd(_differentiate_bottleneck, setup_context=_save_bottleneck)


def bottleneck(
    x: Tensor,
    down_weight: Tensor,
    down_bias: Tensor,
    up_weight: Tensor,
    up_bias: Tensor,
    *,
    inner: str,
    outer: str,
    norm: Norm | None,
    scale: Tensor | None,
    residual: Tensor | None,
) -> Tensor:
    """Return `reference.bottleneck` by the fused kernels; the arguments are checked already."""
    require_fused("x", {"x": x, "residual": residual})
    require_rank(up_weight.shape[1])
    affine = (None, None, 0.0) if norm is None else (norm.weight, norm.bias, norm.eps)
    scale = None if scale is None else scale.expand(x.shape[-1])
    weights = (down_weight, down_bias, up_weight, up_bias, scale, *affine[:2])
    return bottleneck_op(x, None, residual, *weights, inner, outer, affine[2], compute_dtype(x))


def bottleneck_hidden(
    x: Tensor,
    hidden: Tensor,
    up_weight: Tensor,
    up_bias: Tensor,
    *,
    inner: str,
    outer: str,
    scale: Tensor | None,
    residual: Tensor | None,
) -> Tensor:
    """Return `reference.bottleneck_hidden` by the fused kernels; the arguments are checked already."""
    require_fused("x", {"x": x, "hidden": hidden, "residual": residual})
    require_rank(up_weight.shape[1])
    scale = None if scale is None else scale.expand(x.shape[-1])
    weights = (None, None, up_weight, up_bias, scale, None, None)
    return bottleneck_op(x, hidden, residual, *weights, inner, outer, 0.0, compute_dtype(x))


@torch.library.custom_op("vlseg::gated_cross_attention", mutates_args=())
def gated_cross_attention_op(
    vision: Tensor,
    text: Tensor,
    attention: list[Tensor],
    norms: list[Tensor],
    gamma: Tensor,
    mask: Tensor | None,
    heads: int,
    eps: list[float],
    compute: torch.dtype,
) -> Tensor:
    """Launch the gated cross-attention; `norms` is weight and bias of the vision's norm, then of the text's."""
    return fusion.forward(vision, text, _fusion_parameters(attention, norms, gamma, mask, heads, eps, compute))


@gated_cross_attention_op.register_fake
def _(vision, *_) -> Tensor:
    return torch.empty(vision.shape, dtype=vision.dtype, device=vision.device)


@torch.library.custom_op("vlseg::gated_cross_attention_backward", mutates_args=())
def gated_cross_attention_backward_op(
    gradient: Tensor,
    vision: Tensor,
    text: Tensor,
    attention: list[Tensor],
    norms: list[Tensor],
    gamma: Tensor,
    mask: Tensor | None,
    heads: int,
    eps: list[float],
    compute: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Launch the backward: the image's gradient, empty where it is the incoming one, and all others packed."""
    parameters = _fusion_parameters(attention, norms, gamma, mask, heads, eps, compute)
    return fusion.backward(gradient, vision, text, parameters)


@gated_cross_attention_backward_op.register_fake
def _(gradient, vision, text, attention, norms, gamma, mask, heads, eps, compute) -> tuple[Tensor, Tensor]:
    closed = fusion_form(heads, text.shape[1], attention[0].shape[0]) == "closed" and vision.numel() > 0
    size = sum(t.numel() for t in (text, *attention, *norms, gamma))
    return vision.new_empty((0,) if closed else vision.shape), vision.new_empty((size,), dtype=torch.float32)


def _fusion_parameters(attention, norms, gamma, mask, heads, eps, compute) -> fusion.Parameters:
    """Return the operator's flat arguments as what `fusion` takes."""
    vision_norm, text_norm = Norm(norms[0], norms[1], eps[0]), Norm(norms[2], norms[3], eps[1])
    return fusion.Parameters(Attention(*attention), vision_norm, text_norm, gamma, heads, mask, compute)


def _save_fusion(ctx, inputs, output) -> None:
    """Keep the inputs alone: every form computes what it needs again."""
    vision, text, attention, norms, gamma, mask = inputs[:6]
    ctx.save_for_backward(vision, text, *attention, *norms, gamma, mask)
    ctx.rest = inputs[6:]


def _differentiate_fusion(ctx, gradient: Tensor) -> tuple:
    """Return the gradient of every argument of `gated_cross_attention_op`."""
    vision, text, *weights, mask = ctx.saved_tensors
    attention, norms, gamma = weights[:8], weights[8:12], weights[12]
    dvision, packed = gated_cross_attention_backward_op(
        gradient, vision, text, attention, norms, gamma, mask, *ctx.rest
    )
    dvision = gradient if dvision.shape != vision.shape else dvision
    dtext, *found = text_side.unpack(packed, [text, *weights])
    return dvision, dtext, found[:8], found[8:12], found[12], None, None, None, None


gated_cross_attention_op.register_autograd(_differentiate_fusion, setup_context=_save_fusion)


def gated_cross_attention(
    vision: Tensor,
    text: Tensor,
    attention: Attention,
    vision_norm: Norm,
    text_norm: Norm,
    gamma: Tensor,
    *,
    heads: int,
    mask: Tensor | None,
) -> Tensor:
    """Return `reference.gated_cross_attention` by the fused kernels; the arguments are checked already."""
    require_fused("vision", {"vision": vision, "text": text})
    require_batch(vision.shape[0])
    inner = attention.query_weight.shape[0]
    if fusion_form(heads, text.shape[1], inner) == "flash":
        require_head(heads, inner)
    norms = [*vision_norm[:2], *text_norm[:2]]
    eps = [vision_norm.eps, text_norm.eps]
    return gated_cross_attention_op(
        vision, text, list(attention), norms, gamma, mask, heads, eps, compute_dtype(vision)
    )


@torch.library.custom_op("vlseg::text_pooling", mutates_args=())
def text_pooling_op(
    text: Tensor,
    vision: Tensor,
    attention: list[Tensor],
    norms: list[Tensor],
    heads: int,
    eps: list[float],
    compute: torch.dtype,
) -> Tensor:
    """Launch the text pooling; `norms` is weight and bias of the text's norm, then of the vision's."""
    return pooling.forward(text, vision, _pooling_parameters(attention, norms, heads, eps, compute))


@text_pooling_op.register_fake
def _(text, *_) -> Tensor:
    return torch.empty(text.shape, dtype=text.dtype, device=text.device)


@torch.library.custom_op("vlseg::text_pooling_backward", mutates_args=())
def text_pooling_backward_op(
    gradient: Tensor,
    text: Tensor,
    vision: Tensor,
    attention: list[Tensor],
    norms: list[Tensor],
    heads: int,
    eps: list[float],
    compute: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Launch the backward: the image's gradient, and all others packed."""
    return pooling.backward(gradient, text, vision, _pooling_parameters(attention, norms, heads, eps, compute))


@text_pooling_backward_op.register_fake
def _(gradient, text, vision, attention, norms, heads, eps, compute) -> tuple[Tensor, Tensor]:
    size = sum(t.numel() for t in (text, *attention, *norms))
    return vision.new_empty(vision.shape), vision.new_empty((size,), dtype=torch.float32)


def _pooling_parameters(attention, norms, heads, eps, compute) -> pooling.Parameters:
    """Return the operator's flat arguments as what `pooling` takes."""
    text_norm, vision_norm = Norm(norms[0], norms[1], eps[0]), Norm(norms[2], norms[3], eps[1])
    return pooling.Parameters(Attention(*attention), text_norm, vision_norm, heads, compute)


def _save_pooling(ctx, inputs, output) -> None:
    """Keep the inputs alone: the pooled vectors are computed again."""
    text, vision, attention, norms = inputs[:4]
    ctx.save_for_backward(text, vision, *attention, *norms)
    ctx.rest = inputs[4:]


def _differentiate_pooling(ctx, gradient: Tensor) -> tuple:
    """Return the gradient of every argument of `text_pooling_op`."""
    text, vision, *weights = ctx.saved_tensors
    dvision, packed = text_pooling_backward_op(gradient, text, vision, weights[:8], weights[8:], *ctx.rest)
    dtext, *found = text_side.unpack(packed, [text, *weights])
    return dtext, dvision, found[:8], found[8:], None, None, None


text_pooling_op.register_autograd(_differentiate_pooling, setup_context=_save_pooling)


def text_pooling(
    text: Tensor, vision: Tensor, attention: Attention, text_norm: Norm, vision_norm: Norm, *, heads: int
) -> Tensor:
    """Return `reference.text_pooling` by the fused kernels; the arguments are checked already."""
    require_fused("vision", {"vision": vision, "text": text})
    require_batch(vision.shape[0])
    inner = attention.query_weight.shape[0]
    if pooling_form(heads, text.shape[1], inner) == "plain":
        require_head(heads, inner)
    norms = [*text_norm[:2], *vision_norm[:2]]
    eps = [text_norm.eps, vision_norm.eps]
    return text_pooling_op(text, vision, list(attention), norms, heads, eps, compute_dtype(vision))
