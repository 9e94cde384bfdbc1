"""What each operator means, in plain PyTorch.

The fused kernels compute these functions; a reader who has never seen Triton can check them here. Weights have the
layout of `torch.nn.Linear`, (out, in). Everything is differentiable, for any floating dtype and device.

Sources: VLSM-Adapter (arXiv 2405.06196) for the bottleneck; LGA (language-guided adapters of SAM), Eq. 2 to 5, for
the gated cross-attention, the text pooling and the fusion module made of both.
"""

import functools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Norm(NamedTuple):
    """A layer norm's affine, each (width,), and its epsilon."""

    weight: Tensor
    bias: Tensor
    eps: float = 1e-5


class Attention(NamedTuple):
    """The four linears of an attention: query, key, value (inner, width) with bias (inner,), out (width, inner)."""

    query_weight: Tensor
    query_bias: Tensor
    key_weight: Tensor
    key_bias: Tensor
    value_weight: Tensor
    value_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor


class Bottleneck(NamedTuple):
    """The two linears of a bottleneck: down (rank, width) with bias (rank,), up (width, rank) with bias (width,)."""

    down_weight: Tensor
    down_bias: Tensor
    up_weight: Tensor
    up_bias: Tensor


def quick_gelu(x: Tensor) -> Tensor:
    """Return x sigmoid(1.702 x), CLIP's approximation of GELU (Hendrycks and Gimpel, arXiv 1606.08415)."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS = {"identity": lambda x: x, "relu": F.relu, "gelu": F.gelu, "quick-gelu": quick_gelu}


def layer_norm(x: Tensor, norm: Norm) -> Tensor:
    """Return the layer norm of the last axis."""
    return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps)


def in_dtype_of(result: Tensor, *streams: Tensor) -> Tensor:
    """Return the result in the common dtype of what it is added to; under autocast a scale or gate may be wider."""
    dtype = functools.reduce(torch.promote_types, [stream.dtype for stream in streams])
    return result if result.dtype == dtype else result.to(dtype)


def bottleneck(
    x: Tensor,
    down_weight: Tensor,
    down_bias: Tensor,
    up_weight: Tensor,
    up_bias: Tensor,
    *,
    inner: str = "relu",
    outer: str = "relu",
    norm: Norm | None = None,
    scale: Tensor | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """Return residual + x + scale * outer(inner(norm(x) D + d) U + u).

    VLSM-Adapter (arXiv 2405.06196, section 3) is (relu, relu); the MLP of LGA's fusion (Eq. 3 and 5) has a norm and is
    (relu, identity); (identity, identity) with a scale is the low-rank update of LoRA (arXiv 2106.09685).
    """
    hidden = F.linear(x if norm is None else layer_norm(x, norm), down_weight, down_bias)
    return bottleneck_hidden(x, hidden, up_weight, up_bias, inner=inner, outer=outer, scale=scale, residual=residual)


def bottleneck_hidden(
    x: Tensor,
    hidden: Tensor,
    up_weight: Tensor,
    up_bias: Tensor,
    *,
    inner: str = "relu",
    outer: str = "relu",
    scale: Tensor | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """Return residual + x + scale * outer(inner(hidden) U + u): the bottleneck whose down-projection was folded away.

    `hidden` (..., rank) is norm(x) D + d before the activation, as the linear in front delivers it once its rows are
    [W; D W].
    """
    update = ACTIVATIONS[outer](F.linear(ACTIVATIONS[inner](hidden), up_weight, up_bias))
    update = update if scale is None else scale * update
    return in_dtype_of(x + update, x) if residual is None else in_dtype_of(residual + x + update, x, residual)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Return (batch, tokens, inner) as (batch, heads, tokens, inner / heads)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """Return softmax(Q K^T / sqrt(inner / heads)) V, (batch, queries, inner).

    `mask` bool (batch, keys) is True where a key is real. A query whose keys are all masked attends to nothing: its
    row is zero, not NaN.
    """
    q, k, v = (split_heads(x, heads) for x in (query, key, value))
    scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    if mask is None:
        weights = scores.softmax(-1)
    else:
        hidden = ~mask[:, None, None, :]
        weights = scores.masked_fill(hidden, torch.finfo(scores.dtype).min).softmax(-1).masked_fill(hidden, 0)
    return (weights @ v).transpose(1, 2).flatten(2)


def cross_attention(
    queries: Tensor, keys: Tensor, attention: Attention, heads: int, mask: Tensor | None = None
) -> Tensor:
    """Return out(attend(query(queries), key(keys), value(keys))), (batch, queries, width); inputs already normed."""
    query = F.linear(queries, attention.query_weight, attention.query_bias)
    key = F.linear(keys, attention.key_weight, attention.key_bias)
    value = F.linear(keys, attention.value_weight, attention.value_bias)
    return F.linear(attend(query, key, value, heads, mask), attention.out_weight, attention.out_bias)


def gated_cross_attention(
    vision: Tensor,
    text: Tensor,
    attention: Attention,
    vision_norm: Norm,
    text_norm: Norm,
    gamma: Tensor,
    *,
    heads: int = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """Return V + gamma * Attn(LN V, LN L), the injector of LGA (Eq. 4).

    `vision` (batch, tokens, width), `text` (batch, K, width), `gamma` (width,), `mask` bool (batch, K).
    """
    update = cross_attention(layer_norm(vision, vision_norm), layer_norm(text, text_norm), attention, heads, mask)
    return in_dtype_of(vision + gamma * update, vision)


def closed_cross_attention(
    vision: Tensor, text: Tensor, attention: Attention, text_norm: Norm, gamma: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Return `gated_cross_attention` for one text token (batch, 1, width), in exact arithmetic.

    The softmax over one key is 1, so the attention is one vector for each image; queries, keys and the norm of the
    image cancel, and get no gradient.
    """
    value = F.linear(layer_norm(text, text_norm), attention.value_weight, attention.value_bias)
    value = value if mask is None else value * mask[:, :, None]
    return in_dtype_of(vision + gamma * F.linear(value, attention.out_weight, attention.out_bias), vision)


def adapter_cross_attention(
    vision: Tensor,
    text: Tensor,
    attention: Attention,
    vision_norm: Norm,
    text_norm: Norm,
    gamma: Tensor,
    *,
    heads: int = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """Return `gated_cross_attention`, in exact arithmetic, without a query of any vision token.

    It pays while heads x K is below the inner size: the text becomes a bottleneck of that rank (`text_adapter`).
    """
    down, down_bias, up, up_bias = text_adapter(text, attention, text_norm, gamma, heads, mask)
    scores = layer_norm(vision, vision_norm) @ down.flatten(1, 2).transpose(-1, -2)
    # finite, so that a row without any real key is a number; its weights then meet columns of zero
    bias = down_bias.clamp_min(torch.finfo(down_bias.dtype).min)
    weights = (scores.unflatten(-1, (heads, -1)) + bias[:, None]).softmax(-1).flatten(-2)
    up = up if mask is None else up * mask[:, None, None, :]
    return in_dtype_of(vision + (weights @ up.flatten(2).transpose(-1, -2) + up_bias), vision)


def text_pooling(
    text: Tensor, vision: Tensor, attention: Attention, text_norm: Norm, vision_norm: Norm, *, heads: int = 1
) -> Tensor:
    """Return L + Attn(LN L, LN V), the extractor of LGA (Eq. 2): the text asks, the image answers.

    `text` (batch, K, width), `vision` (batch, tokens, width).
    """
    return text + cross_attention(layer_norm(text, text_norm), layer_norm(vision, vision_norm), attention, heads)


def pooling_queries(text: Tensor, attention: Attention, text_norm: Norm, vision_norm: Norm, heads: int) -> Tensor:
    """Return the absorbed queries q~ = w * (Wk^T q) / sqrt(inner / heads), (batch, heads x K, width).

    `w` is the weight of the vision norm. What the softmax cannot see is left out: the key bias and the norm's bias add
    the same number to every key's score.
    """
    query = split_heads(F.linear(layer_norm(text, text_norm), attention.query_weight, attention.query_bias), heads)
    keys = attention.key_weight.unflatten(0, (heads, -1))
    return ((query @ keys) * (vision_norm.weight * query.shape[-1] ** -0.5)).flatten(1, 2)


def pooling_result(pooled: Tensor, text: Tensor, attention: Attention, vision_norm: Norm, heads: int) -> Tensor:
    """Return L + out(value(w * pooled + b)) for `pooled` (batch, heads x K, width), the pooled normalised vision."""
    kept = (pooled * vision_norm.weight + vision_norm.bias).unflatten(1, (heads, -1))
    value = kept @ attention.value_weight.unflatten(0, (heads, -1)).transpose(-1, -2)
    value = value.transpose(1, 2).flatten(2) + attention.value_bias
    return text + F.linear(value, attention.out_weight, attention.out_bias)


def absorbed_text_pooling(
    text: Tensor, vision: Tensor, attention: Attention, text_norm: Norm, vision_norm: Norm, *, heads: int = 1
) -> Tensor:
    """Return `text_pooling`, in exact arithmetic, without a key, a value or a normed copy of any vision token.

    The scores of a query are normed(V) q~, so the key projection moves to the few queries; the softmax weights sum to
    one, so the value projection moves behind the pooling. The norm is absorbed too: with q~ centred, its inner product
    with (V - mean) / std is that with V, over std; and a pooled vector is centred after the pooling.
    The means of V come as one more query. The variance is mean(V^2) - mean(V)^2, whose relative error is that of the
    dtype times 1 + (mean / std)^2.
    """
    queries = centred_queries(text, attention, text_norm, vision_norm, heads)
    return pooling_result(pooled_by(queries, vision, vision_norm.eps), text, attention, vision_norm, heads)


def centred_queries(text: Tensor, attention: Attention, text_norm: Norm, vision_norm: Norm, heads: int) -> Tensor:
    """Return the absorbed queries, centred, and a last one that averages, (batch, heads x K + 1, width)."""
    queries = pooling_queries(text, attention, text_norm, vision_norm, heads)
    queries = queries - queries.mean(-1, keepdim=True)
    return torch.cat([queries, torch.full_like(queries[:, :1], 1 / queries.shape[-1])], 1)


def pooled_by(queries: Tensor, vision: Tensor, eps: float) -> Tensor:
    """Return the normalised vision (batch, tokens, width) as centred queries pool it, (batch, heads x K, width)."""
    scores, means = (queries @ vision.transpose(-1, -2)).split([queries.shape[1] - 1, 1], 1)
    wide = torch.promote_types(vision.dtype, torch.float32)
    squares = torch.linalg.vector_norm(vision, dim=-1, dtype=wide).square()[:, None] / vision.shape[-1]
    rstd = (squares - means.to(wide).square()).clamp_min(0).add(eps).rsqrt().to(vision.dtype)
    pooled = ((scores * rstd).softmax(-1) * rstd) @ vision
    return pooled - pooled.mean(-1, keepdim=True)


def text_adapter(
    text: Tensor,
    attention: Attention,
    text_norm: Norm,
    gamma: Tensor,
    heads: int,
    mask: Tensor | None = None,
) -> Bottleneck:
    """Return the bottleneck that a gated cross-attention is, once its text is known.

    Attn(x, L) = sum over heads of softmax(x Wq_h^T K_h^T + bq_h K_h^T) V_h Wo_h^T. With K and V known, D = K_h Wq_h and
    U = Wo_h V_h^T are matrices of rank heads x K, and the softmax is the inner activation. The down weight is
    (batch, heads, K, width), the down bias (batch, heads, K) with minus infinity at masked tokens, the up weight
    (batch, width, heads, K) with gamma in it, the up bias (width,).
    """
    normed = layer_norm(text, text_norm)
    key = split_heads(F.linear(normed, attention.key_weight, attention.key_bias), heads)
    value = split_heads(F.linear(normed, attention.value_weight, attention.value_bias), heads)
    key = key * key.shape[-1] ** -0.5
    bias = (key @ attention.query_bias.unflatten(0, (heads, -1)).unsqueeze(-1)).squeeze(-1)
    bias = bias if mask is None else bias.masked_fill(~mask[:, None, :], float("-inf"))
    out = attention.out_weight.unflatten(1, (heads, -1)).transpose(0, 1)
    up = (gamma[:, None] * out) @ value.transpose(-1, -2)
    return Bottleneck(
        key @ attention.query_weight.unflatten(0, (heads, -1)), bias, up.transpose(1, 2), gamma * attention.out_bias
    )


class Fusion(NamedTuple):
    """The parameters of one fusion module; `text_mlp` and `vision_mlp` are bottlenecks with their own norms."""

    pooling: Attention
    pooling_text_norm: Norm
    pooling_vision_norm: Norm
    text_mlp: Bottleneck
    text_mlp_norm: Norm
    injection: Attention
    injection_vision_norm: Norm
    injection_text_norm: Norm
    gamma: Tensor
    vision_mlp: Bottleneck
    vision_mlp_norm: Norm


def fusion(
    vision: Tensor, text: Tensor, weights: Fusion, *, heads: int = 1, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return (V, L) after one fusion module of LGA (Eq. 2 to 5): text first, then vision with the updated text."""
    w = weights
    text = text_pooling(text, vision, w.pooling, w.pooling_text_norm, w.pooling_vision_norm, heads=heads)
    text = bottleneck(text, *w.text_mlp, outer="identity", norm=w.text_mlp_norm)
    vision = gated_cross_attention(
        vision, text, w.injection, w.injection_vision_norm, w.injection_text_norm, w.gamma, heads=heads, mask=mask
    )
    return bottleneck(vision, *w.vision_mlp, outer="identity", norm=w.vision_mlp_norm), text
