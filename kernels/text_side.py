"""Gradients of the small side: a few text tokens through norms and linears, written out in fp32 PyTorch.

The image side is what costs, and has kernels; these are products of a few hundred numbers. They are written by hand
because an operator's backward is opaque to autograd. `reference.py` has the forward of each.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .reference import Attention, Bottleneck, Norm, split_heads


class Normed(NamedTuple):
    """A layer norm's result with what its backward needs."""

    value: Tensor
    source: Tensor
    mean: Tensor
    rstd: Tensor
    norm: Norm


def norm_forward(x: Tensor, norm: Norm) -> Normed:
    """Return the layer norm of the last axis in fp32."""
    norm = Norm(norm.weight.float(), norm.bias.float(), norm.eps)
    source = x.float()
    value, mean, rstd = torch.ops.aten.native_layer_norm(source, [x.shape[-1]], norm.weight, norm.bias, norm.eps)
    return Normed(value, source, mean, rstd, norm)


def norm_backward(gradient: Tensor, normed: Normed) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of the input, the weight and the bias."""
    return torch.ops.aten.native_layer_norm_backward(
        gradient.contiguous(),
        normed.source,
        [gradient.shape[-1]],
        normed.mean,
        normed.rstd,
        normed.norm.weight,
        normed.norm.bias,
        [True, True, True],
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return x W^T + b in fp32."""
    return torch.nn.functional.linear(x, weight.float(), bias.float())


def linear_backward(gradient: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of the input, the weight and the bias of a linear layer."""
    rows = gradient.flatten(0, -2)
    return gradient @ weight.float(), rows.T @ x.flatten(0, -2), rows.sum(0)


def merge_heads(x: Tensor) -> Tensor:
    """Return (batch, heads, tokens, head) as (batch, tokens, heads x head), the inverse of `split_heads`."""
    return x.transpose(1, 2).flatten(2)


def by_head(weight: Tensor, heads: int) -> Tensor:
    """Return a weight (heads x head, width) in fp32 as (heads, head, width)."""
    return weight.float().unflatten(0, (heads, -1))


def pack(gradients: list[Tensor]) -> Tensor:
    """Return all gradients end to end in fp32: an operator may not return views of one another."""
    return torch.cat([g.reshape(-1) for g in gradients])


def unpack(packed: Tensor, like: list[Tensor]) -> list[Tensor]:
    """Return the gradients again, with the shapes and dtypes of the tensors they belong to."""
    parts = packed.split([t.numel() for t in like])
    return [part.view(t.shape).to(t.dtype) for part, t in zip(parts, like, strict=True)]


class Grads(NamedTuple):
    """Gradients of everything but the image itself, in the order of the operators' arguments."""

    text: Tensor
    attention: Attention
    vision_norm: tuple[Tensor, Tensor]
    text_norm: tuple[Tensor, Tensor]


def without_key_bias(gradient: Attention) -> Attention:
    """Return the gradient with an exact zero for the key bias: it moves all scores of a query alike."""
    return gradient._replace(key_bias=torch.zeros_like(gradient.key_bias))


def closed_backward(
    gradient: Tensor,
    text: Tensor,
    attention: Attention,
    vision_norm: Norm,
    text_norm: Norm,
    gamma: Tensor,
    mask: Tensor | None,
) -> tuple[Grads, Tensor]:
    """Return the gradients of gamma * out(value(LN L)) for one token, from its gradient (batch, 1, width); and gamma's.

    Query, key and the vision norm get exact zeros: a softmax over one key is constant.
    """
    a = attention
    normed = norm_forward(text, text_norm)
    real = 1.0 if mask is None else mask[..., None].float()
    value = linear(normed.value, a.value_weight, a.value_bias) * real
    out = linear(value, a.out_weight, a.out_bias)
    dgamma = (gradient * out).sum((0, 1))
    dvalue, dout_weight, dout_bias = linear_backward(gradient * gamma.float(), value, a.out_weight)
    dnormed, dvalue_weight, dvalue_bias = linear_backward(dvalue * real, normed.value, a.value_weight)
    dtext, *dnorm = norm_backward(dnormed, normed)
    unseen = Attention(*(torch.zeros_like(t, dtype=torch.float32) for t in a))
    dattention = unseen._replace(
        value_weight=dvalue_weight, value_bias=dvalue_bias, out_weight=dout_weight, out_bias=dout_bias
    )
    dvision_norm = torch.zeros_like(vision_norm.weight, dtype=torch.float32)
    return Grads(dtext, dattention, (dvision_norm, dvision_norm), (dnorm[0], dnorm[1])), dgamma


def adapter_backward(
    gradient: Bottleneck, text: Tensor, attention: Attention, text_norm: Norm, gamma: Tensor, heads: int
) -> tuple[Tensor, Attention, tuple[Tensor, Tensor], Tensor]:
    """Return the gradients of `reference.text_adapter`: of the text, the attention, the text norm and gamma.

    `gradient` is (batch, heads, K, width), (batch, heads, K), (batch, width, heads, K) and (width,), in fp32.
    """
    a = attention
    normed = norm_forward(text, text_norm)
    key = split_heads(linear(normed.value, a.key_weight, a.key_bias), heads)
    value = split_heads(linear(normed.value, a.value_weight, a.value_bias), heads)
    scale = key.shape[-1] ** -0.5
    query_weight, query_bias = by_head(a.query_weight, heads), a.query_bias.float().unflatten(0, (heads, -1))
    out_weight = a.out_weight.float().unflatten(1, (heads, -1))
    ddown, ddown_bias, dup, dup_bias = gradient

    dquery_weight = torch.einsum("bhkd,bhkw->hdw", key * scale, ddown).flatten(0, 1)
    dquery_bias = torch.einsum("bhkd,bhk->hd", key * scale, ddown_bias).flatten()
    dkey = torch.einsum("bhkw,hdw->bhkd", ddown, query_weight)
    dkey = (dkey + ddown_bias[..., None] * query_bias[None, :, None, :]) * scale
    dplain = dup * gamma.float()[:, None, None]
    dvalue = torch.einsum("bwhk,whd->bhkd", dplain, out_weight)
    dout_weight = torch.einsum("bwhk,bhkd->whd", dplain, value).flatten(1)
    dgamma = torch.einsum("bwhk,whd,bhkd->w", dup, out_weight, value) + dup_bias * a.out_bias.float()

    dnormed_key, dkey_weight, dkey_bias = linear_backward(merge_heads(dkey), normed.value, a.key_weight)
    dnormed_value, dvalue_weight, dvalue_bias = linear_backward(merge_heads(dvalue), normed.value, a.value_weight)
    dtext, *dnorm = norm_backward(dnormed_key + dnormed_value, normed)
    dattention = Attention(
        dquery_weight,
        dquery_bias,
        dkey_weight,
        dkey_bias,
        dvalue_weight,
        dvalue_bias,
        dout_weight,
        dup_bias * gamma.float(),
    )
    return dtext, dattention, (dnorm[0], dnorm[1]), dgamma


class Result(NamedTuple):
    """Gradients of `reference.pooling_result`; that of the text is the incoming gradient itself."""

    pooled: Tensor
    value_weight: Tensor
    value_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor
    vision_norm: tuple[Tensor, Tensor]


def result_backward(gradient: Tensor, pooled: Tensor, attention: Attention, vision_norm: Norm, heads: int) -> Result:
    """Return the gradients of L + out(value(w * pooled + b)) from its gradient (batch, K, width), in fp32."""
    a = attention
    weight = vision_norm.weight.float()
    kept = (pooled * weight + vision_norm.bias.float()).unflatten(1, (heads, -1))
    value_weight = by_head(a.value_weight, heads)
    value = merge_heads(kept @ value_weight.transpose(-1, -2)) + a.value_bias.float()
    dvalue, dout_weight, dout_bias = linear_backward(gradient, value, a.out_weight)
    by = split_heads(dvalue, heads)
    dkept = (by @ value_weight).flatten(1, 2)
    return Result(
        dkept * weight,
        torch.einsum("bhkd,bhkw->hdw", by, kept).flatten(0, 1),
        dvalue.sum((0, 1)),
        dout_weight,
        dout_bias,
        ((dkept * pooled).sum((0, 1)), dkept.sum((0, 1))),
    )


def queries_backward(
    gradient: Tensor, text: Tensor, attention: Attention, text_norm: Norm, vision_weight: Tensor, heads: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, tuple[Tensor, Tensor], Tensor]:
    """Return the gradients of `reference.pooling_queries` from theirs (batch, heads x K, width), in fp32.

    They are those of the text, the query weight and bias, the key weight, the text norm, and the vision norm's weight.
    """
    a = attention
    normed = norm_forward(text, text_norm)
    query = split_heads(linear(normed.value, a.query_weight, a.query_bias), heads)
    key_weight = by_head(a.key_weight, heads)
    gradient = (gradient * query.shape[-1] ** -0.5).unflatten(1, (heads, -1))
    dvision_weight = (gradient * (query @ key_weight)).sum((0, 1, 2))
    inside = gradient * vision_weight.float()
    dquery = merge_heads(inside @ key_weight.transpose(-1, -2))
    dkey_weight = torch.einsum("bhkd,bhkw->hdw", query, inside).flatten(0, 1)
    dnormed, dquery_weight, dquery_bias = linear_backward(dquery, normed.value, a.query_weight)
    dtext, *dnorm = norm_backward(dnormed, normed)
    return dtext, dquery_weight, dquery_bias, dkey_weight, (dnorm[0], dnorm[1]), dvision_weight


class Projected(NamedTuple):
    """Gradients of linears that share one normed input: of the input, the norm, and each linear's weight and bias."""

    x: Tensor
    norm: tuple[Tensor, Tensor]
    linears: list[tuple[Tensor, Tensor]]


def projections_backward(x: Tensor, norm: Norm, linears: list[tuple[Tensor, Tensor]]) -> Projected:
    """Return the gradients of linear(LN x) for each (gradient, weight), in fp32."""
    normed = norm_forward(x, norm)
    parts = [linear_backward(gradient.float(), normed.value, weight) for gradient, weight in linears]
    dx, *dnorm = norm_backward(torch.stack([part[0] for part in parts]).sum(0), normed)
    return Projected(dx, (dnorm[0], dnorm[1]), [(part[1], part[2]) for part in parts])
