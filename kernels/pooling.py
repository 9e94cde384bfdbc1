"""The text pooling in its two forms: launches forward, and the backward of each."""

# pyright: reportCallIssue=false

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from . import attention as flash
from . import text_side, tiles
from .forms import pooling_form, power_of_two
from .launch import DTYPES, precision, rows_contiguous
from .pooling_kernels import pool_backward, pool_forward, pooling_finish, pooling_query
from .reference import Attention, Norm


class Parameters(NamedTuple):
    """Everything but the two streams: the weights, the number of heads and the dtype of the plain form's products."""

    attention: Attention
    text_norm: Norm
    vision_norm: Norm
    heads: int
    compute: torch.dtype

    @property
    def inner(self) -> int:
        """The size of queries, keys and values, all heads together."""
        return self.attention.query_weight.shape[0]


class Pooled(NamedTuple):
    """What the absorbed form's backward takes from its forward: queries, pooled vectors (fp32) and their log sums."""

    queries: Tensor
    pooled: Tensor
    logsum: Tensor


def absorbed(text: Tensor, p: Parameters) -> bool:
    """Return whether the shape asks for the absorbed form."""
    return pooling_form(p.heads, text.shape[1], p.inner) == "absorbed"


def forward(text: Tensor, vision: Tensor, parameters: Parameters) -> Tensor:
    """Return L + Attn(LN L, LN V), in the form that the shape asks for."""
    p = parameters._replace(attention=Attention(*(t.contiguous() for t in parameters.attention)))
    if text.numel() == 0:
        return torch.empty(text.shape, dtype=text.dtype, device=text.device)
    return _absorbed(text, vision, p, keep=False)[0] if absorbed(text, p) else _plain(text, vision, p)


def _queries(text: Tensor, vision: Tensor, p: Parameters) -> Tensor:
    """Return the absorbed queries (batch, heads x K, width), in the image's dtype; one launch."""
    batch, tokens, width = text.shape
    head = p.inner // p.heads
    queries = torch.empty((batch, p.heads * tokens, width), dtype=vision.dtype, device=text.device)
    pooling_query[(p.heads * tokens, batch)](
        text,
        p.text_norm.weight,
        p.text_norm.bias,
        p.attention.query_weight,
        p.attention.query_bias,
        p.attention.key_weight,
        p.vision_norm.weight,
        text.stride(0),
        text.stride(1),
        queries,
        WIDTH=width,
        TOKENS=tokens,
        HEADS=p.heads,
        HEAD=head,
        SCALE=head**-0.5,
        EPS=p.text_norm.eps,
        BLOCK_INNER=8,
        BLOCK_WIDTH=power_of_two(width),
        num_warps=8,
        num_stages=2,
    )
    return queries


def _pool_constants(vision: Tensor, queries: Tensor, eps: float) -> tuple[tiles.Tile, dict]:
    """Return the tile and the constants of the pass over the image, forward and backward.

    The products are made in the image's own dtype: the pass is bound by memory, and a rounded image would not cancel.
    """
    tile = tiles.choose("pool", vision.device, vision.dtype, queries.shape[1], vision.shape[1], vision.shape[0])
    return tile, {
        "WIDTH": vision.shape[2],
        "QUERY_COUNT": queries.shape[1],
        "EPS": eps,
        "COMPUTE": DTYPES[vision.dtype],
        "PRECISION": precision(vision.dtype),
        "QUERIES": power_of_two(queries.shape[1], 16),
        "ROWS": tile.rows,
        "BLOCK": tile.block,
        "num_warps": tile.warps,
        "num_stages": tile.stages,
    }


def _absorbed(text: Tensor, vision: Tensor, p: Parameters, keep: bool) -> tuple[Tensor, Pooled | None]:
    """Return the absorbed form, three launches; with what the backward needs where `keep` says so."""
    batch, tokens, width = text.shape
    queries = _queries(text, vision, p)
    count = queries.shape[1]
    tile, constants = _pool_constants(vision, queries, p.vision_norm.eps)
    blocks = triton.cdiv(vision.shape[1], tile.rows)
    fp32 = {"dtype": torch.float32, "device": text.device}
    partial = torch.empty((batch, blocks, count, width), **fp32)
    softmax = torch.empty((batch, blocks, count, 2), **fp32)
    strides = (vision.stride(0), vision.stride(1))
    pool_forward[(blocks, batch)](vision, queries, vision.shape[1], blocks, *strides, partial, softmax, **constants)
    y = torch.empty(text.shape, dtype=text.dtype, device=text.device)
    kept = Pooled(queries, torch.empty((batch, count, width), **fp32), torch.empty((batch, count), **fp32))
    pooling_finish[(tokens, batch)](
        text,
        partial,
        softmax,
        p.vision_norm.weight,
        p.vision_norm.bias,
        p.attention.value_weight,
        p.attention.value_bias,
        p.attention.out_weight,
        p.attention.out_bias,
        blocks,
        text.stride(0),
        text.stride(1),
        y,
        kept.pooled if keep else None,
        kept.logsum if keep else None,
        WIDTH=width,
        TOKENS=tokens,
        HEADS=p.heads,
        HEAD=p.inner // p.heads,
        BLOCKS=power_of_two(blocks),
        STEP=4,
        BLOCK_INNER=8,
        BLOCK_WIDTH=power_of_two(width),
        num_warps=8,
        num_stages=2,
    )
    return y, kept if keep else None


def _projections(text: Tensor, vision: Tensor, p: Parameters) -> list[Tensor]:
    """Return query, key and value of the plain form."""
    a = p.attention
    query = flash.project(text, p.text_norm, [(a.query_weight, a.query_bias)], p.compute)
    rest = [(a.key_weight, a.key_bias), (a.value_weight, a.value_bias)]
    return query + flash.project(vision, p.vision_norm, rest, p.compute)


def _plain(text: Tensor, vision: Tensor, p: Parameters) -> Tensor:
    """Return the plain form: projections, attention without a written score, output."""
    attended, _logsum = flash.attend(*_projections(text, vision, p), None, p.heads)
    out = torch.nn.functional.linear(attended, p.attention.out_weight.to(p.compute), p.attention.out_bias.to(p.compute))
    return text + out.to(text.dtype)


def backward(gradient: Tensor, text: Tensor, vision: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
    """Return the gradient of vision, and packed in fp32 those of text, the attention's eight and the two norms."""
    p = parameters._replace(attention=Attention(*(t.contiguous() for t in parameters.attention)))
    if text.numel() == 0:
        size = sum(t.numel() for t in (text, *p.attention, *p.text_norm[:2], *p.vision_norm[:2]))
        return torch.zeros(vision.shape, dtype=vision.dtype, device=vision.device), text.new_zeros(
            (size,), dtype=torch.float32
        )
    form = _absorbed_backward if absorbed(text, p) else _plain_backward
    dvision, grads = form(rows_contiguous(gradient).float(), text, vision, p)
    attention = text_side.without_key_bias(grads.attention)
    return dvision, text_side.pack([grads.text, *attention, *grads.text_norm, *grads.vision_norm])


def _absorbed_backward(gradient: Tensor, text: Tensor, vision: Tensor, p: Parameters) -> tuple[Tensor, text_side.Grads]:
    """Return the gradients of the absorbed form: result, one pass over the image, queries."""
    _y, kept = _absorbed(text, vision, p, keep=True)
    assert kept is not None
    result = text_side.result_backward(gradient, kept.pooled, p.attention, p.vision_norm, p.heads)
    dvision, dqueries = _pool_backward(result.pooled, vision, kept, p)
    dtext, dquery_weight, dquery_bias, dkey_weight, dtext_norm, dvision_weight = text_side.queries_backward(
        dqueries, text, p.attention, p.text_norm, p.vision_norm.weight, p.heads
    )
    unseen = torch.zeros_like(p.attention.key_bias, dtype=torch.float32)
    dattention = Attention(dquery_weight, dquery_bias, dkey_weight, unseen, *result[1:5])
    dvision_norm = (result.vision_norm[0] + dvision_weight, result.vision_norm[1])
    return dvision, text_side.Grads(gradient + dtext, dattention, dvision_norm, dtext_norm)


def _pool_backward(dpooled: Tensor, vision: Tensor, kept: Pooled, p: Parameters) -> tuple[Tensor, Tensor]:
    """Return the gradients of the image and of the absorbed queries (fp32); one launch and one sum in a fixed order."""
    tile, constants = _pool_constants(vision, kept.queries, p.vision_norm.eps)
    batch, tokens, width = vision.shape
    blocks = triton.cdiv(tokens, tile.rows)
    dvision = torch.empty(vision.shape, dtype=vision.dtype, device=vision.device)
    partial = torch.empty((batch, blocks, kept.queries.shape[1], width), dtype=torch.float32, device=vision.device)
    delta = (dpooled * kept.pooled).sum(-1)
    pool_backward[(blocks, batch)](
        vision,
        kept.queries,
        dpooled.contiguous(),
        kept.logsum,
        delta,
        tokens,
        blocks,
        vision.stride(0),
        vision.stride(1),
        dvision,
        partial,
        **constants,
    )
    return dvision, partial.sum(1)


def _plain_backward(gradient: Tensor, text: Tensor, vision: Tensor, p: Parameters) -> tuple[Tensor, text_side.Grads]:
    """Return the gradients of the plain form; projections and attention are computed again."""
    a = p.attention
    query, key, value = _projections(text, vision, p)
    attended, logsum = flash.attend(query, key, value, None, p.heads)
    dattended, dout_weight, dout_bias = text_side.linear_backward(gradient, attended.float(), a.out_weight)
    moved = flash.attend_backward(dattended.to(p.compute), query, key, value, None, attended, logsum)
    from_text = text_side.projections_backward(text, p.text_norm, [(moved[0], a.query_weight)])
    rest = [(moved[1], a.key_weight), (moved[2], a.value_weight)]
    from_vision = text_side.projections_backward(vision, p.vision_norm, rest)
    dattention = Attention(
        *from_text.linears[0], *from_vision.linears[0], *from_vision.linears[1], dout_weight, dout_bias
    )
    return from_vision.x.to(vision.dtype), text_side.Grads(
        gradient + from_text.x, dattention, from_vision.norm, from_text.norm
    )
