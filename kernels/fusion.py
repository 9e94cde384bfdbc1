"""The gated cross-attention in its three forms: launches forward, and the backward of each.

Gradients come back in the order of the operator's arguments; that of the image is None where it is the incoming one.
"""

# pyright: reportCallIssue=false

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from . import attention as flash
from . import bottleneck as bottlenecks
from . import text_side, tiles
from .forms import RANK_LIMIT, adapter_layout, fusion_form, power_of_two
from .fusion_kernels import closed_forward
from .fusion_kernels import text_adapter as text_adapter_kernel
from .launch import rows_contiguous
from .reference import Attention, Bottleneck, Norm


class Parameters(NamedTuple):
    """Everything but the two streams: the weights, the number of heads, the mask and the dtype of the products."""

    attention: Attention
    vision_norm: Norm
    text_norm: Norm
    gamma: Tensor
    heads: int
    mask: Tensor | None
    compute: torch.dtype

    @property
    def inner(self) -> int:
        """The size of queries, keys and values, all heads together."""
        return self.attention.query_weight.shape[0]


def contiguous(parameters: Parameters) -> Parameters:
    """Return the same with every tensor packed."""
    return parameters._replace(
        attention=Attention(*(t.contiguous() for t in parameters.attention)),
        gamma=parameters.gamma.contiguous(),
        mask=None if parameters.mask is None else parameters.mask.contiguous(),
    )


def forward(vision: Tensor, text: Tensor, parameters: Parameters) -> Tensor:
    """Return V + gamma * Attn(LN V, LN L), in the form that the shape asks for."""
    if vision.numel() == 0:
        return torch.empty(vision.shape, dtype=vision.dtype, device=vision.device)
    form = {"closed": _closed, "adapter": _adapter, "flash": _flash}
    parameters = contiguous(parameters)
    return form[fusion_form(parameters.heads, text.shape[1], parameters.inner)](vision, text, parameters)


def _closed(vision: Tensor, text: Tensor, p: Parameters) -> Tensor:
    """Return the form for one text token, one launch."""
    batch, tokens, width = vision.shape
    y = torch.empty(vision.shape, dtype=vision.dtype, device=vision.device)
    tile = tiles.choose("closed_forward", vision.device, vision.dtype, p.inner, tokens, batch)
    rows_each = -(-tokens // (tile.shares * tile.rows)) * tile.rows
    grid = (triton.cdiv(width, tile.block), triton.cdiv(tokens, rows_each), batch)
    closed_forward[grid](
        vision,
        text,
        p.text_norm.weight,
        p.text_norm.bias,
        p.attention.value_weight,
        p.attention.value_bias,
        p.attention.out_weight,
        p.attention.out_bias,
        p.gamma,
        p.mask,
        tokens,
        rows_each,
        vision.stride(0),
        vision.stride(1),
        text.stride(0),
        y,
        WIDTH=width,
        INNER=p.inner,
        EPS=p.text_norm.eps,
        ROWS=tile.rows,
        BLOCK=tile.block,
        BLOCK_INNER=16,
        BLOCK_WIDTH=power_of_two(width),
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    return y


def make_text_adapter(text: Tensor, p: Parameters) -> bottlenecks.Weights:
    """Return the bottleneck made from the text, its rank padded to head slots x token slots; one launch."""
    batch, tokens, width = text.shape
    head_slots, token_slots = adapter_layout(p.heads, tokens)
    rank = head_slots * token_slots
    down = torch.empty((batch, rank, width), dtype=p.compute, device=text.device)
    up = torch.empty((batch, width, rank), dtype=p.compute, device=text.device)
    down_bias = torch.empty((batch, rank), dtype=torch.float32, device=text.device)
    up_bias = torch.empty((width,), dtype=torch.float32, device=text.device)
    head = p.inner // p.heads
    text_adapter_kernel[(rank, batch)](
        text,
        p.text_norm.weight,
        p.text_norm.bias,
        *p.attention,
        p.gamma,
        p.mask,
        text.stride(0),
        text.stride(1),
        down,
        down_bias,
        up,
        up_bias,
        WIDTH=width,
        TOKENS=tokens,
        HEADS=p.heads,
        HEAD=head,
        SCALE=head**-0.5,
        EPS=p.text_norm.eps,
        TOKEN_SLOTS=token_slots,
        RANK=rank,
        BLOCK_INNER=8,
        BLOCK_WIDTH=power_of_two(width),
        num_warps=8,
        num_stages=2,
    )
    return bottlenecks.Weights(down, down_bias, up, up_bias, None, p.vision_norm.weight, p.vision_norm.bias)


def _adapter_kind(text: Tensor, p: Parameters) -> bottlenecks.Kind:
    """Return the constants of the bottleneck made from the text: a softmax for each head slot, nothing outside."""
    groups = adapter_layout(p.heads, text.shape[1])[0]
    return bottlenecks.Kind("softmax", "identity", groups, p.vision_norm.eps, p.compute)


def _adapter(vision: Tensor, text: Tensor, p: Parameters) -> Tensor:
    """Return the form for few text tokens: the text's bottleneck, then the bottleneck's kernel; two launches."""
    return bottlenecks.forward(vision, None, None, make_text_adapter(text, p), _adapter_kind(text, p))


def _projections(vision: Tensor, text: Tensor, p: Parameters) -> list[Tensor]:
    """Return query, key and value of the flash form."""
    a = p.attention
    query = flash.project(vision, p.vision_norm, [(a.query_weight, a.query_bias)], p.compute)
    rest = [(a.key_weight, a.key_bias), (a.value_weight, a.value_bias)]
    return query + flash.project(text, p.text_norm, rest, p.compute)


def _out_weights(p: Parameters) -> bottlenecks.Weights:
    """Return the output projection with its gate, as the second half of a bottleneck."""
    return bottlenecks.Weights(None, None, p.attention.out_weight, p.attention.out_bias, p.gamma, None, None)


def _flash(vision: Tensor, text: Tensor, p: Parameters) -> Tensor:
    """Return the form for many text tokens: projections, attention, then output, gate and residual in one launch.

    An inner size beyond what a bottleneck holds leaves the output projection to cuBLAS.
    """
    attended, _logsum = flash.attend(*_projections(vision, text, p), p.mask, p.heads)
    if p.inner > RANK_LIMIT:
        weight, bias = p.attention.out_weight.to(p.compute), p.attention.out_bias.to(p.compute)
        out = torch.nn.functional.linear(attended, weight, bias).float()
        return torch.addcmul(vision.float(), p.gamma.float(), out).to(vision.dtype)
    kind = bottlenecks.Kind("identity", "identity", 1, 0.0, p.compute)
    return bottlenecks.forward(vision, attended, None, _out_weights(p), kind)


def backward(gradient: Tensor, vision: Tensor, text: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
    """Return the gradient of vision, and packed in fp32 those of text, the attention's eight, two norms and gamma.

    The first is empty where it equals the incoming gradient.
    """
    p = contiguous(parameters)
    gradient = rows_contiguous(gradient)
    if vision.numel() == 0:
        size = sum(t.numel() for t in (text, *p.attention, *p.vision_norm[:2], *p.text_norm[:2], p.gamma))
        return vision.new_empty(vision.shape), vision.new_zeros((size,), dtype=torch.float32)
    form = {"closed": _closed_backward, "adapter": _adapter_backward, "flash": _flash_backward}
    dvision, grads, dgamma = form[fusion_form(p.heads, text.shape[1], p.inner)](gradient, vision, text, p)
    dvision = vision.new_empty((0,)) if dvision is None else dvision
    attention = text_side.without_key_bias(grads.attention)
    return dvision, text_side.pack([grads.text, *attention, *grads.vision_norm, *grads.text_norm, dgamma])


def _closed_backward(
    gradient: Tensor, vision: Tensor, text: Tensor, p: Parameters
) -> tuple[Tensor | None, text_side.Grads, Tensor]:
    """Return the gradients of the closed form: the image's is the incoming one."""
    total = gradient.sum(1, keepdim=True, dtype=torch.float32)
    return None, *text_side.closed_backward(total, text, p.attention, p.vision_norm, p.text_norm, p.gamma, p.mask)


def _adapter_backward(
    gradient: Tensor, vision: Tensor, text: Tensor, p: Parameters
) -> tuple[Tensor | None, text_side.Grads, Tensor]:
    """Return the gradients of the text's bottleneck: first its weights', then those of what it was made from."""
    weights = make_text_adapter(text, p)
    dvision, packed = bottlenecks.backward(gradient, vision, None, weights, _adapter_kind(text, p), True)
    grads = bottlenecks.unpack(packed.float(), weights)
    assert grads.down is not None and grads.down_bias is not None
    assert grads.norm_weight is not None and grads.norm_bias is not None
    tokens, slots = text.shape[1], adapter_layout(p.heads, text.shape[1])
    made = Bottleneck(
        grads.down.unflatten(1, slots)[:, : p.heads, :tokens],
        grads.down_bias.unflatten(1, slots)[:, : p.heads, :tokens],
        grads.up.unflatten(2, slots)[:, :, : p.heads, :tokens],
        grads.up_bias,
    )
    dtext, dattention, dnorm, dgamma = text_side.adapter_backward(
        made, text, p.attention, p.text_norm, p.gamma, p.heads
    )
    return dvision, text_side.Grads(dtext, dattention, (grads.norm_weight, grads.norm_bias), dnorm), dgamma


def _flash_backward(
    gradient: Tensor, vision: Tensor, text: Tensor, p: Parameters
) -> tuple[Tensor | None, text_side.Grads, Tensor]:
    """Return the gradients of the flash form; queries, keys, values and the attention are computed again."""
    a = p.attention
    query, key, value = _projections(vision, text, p)
    attended, logsum = flash.attend(query, key, value, p.mask, p.heads)
    dattended, dout_weight, dout_bias, dgamma = _out_backward(gradient, vision, attended, p)
    dquery, dkey, dvalue = flash.attend_backward(dattended, query, key, value, p.mask, attended, logsum)
    from_query = text_side.projections_backward(vision, p.vision_norm, [(dquery, a.query_weight)])
    from_text = text_side.projections_backward(text, p.text_norm, [(dkey, a.key_weight), (dvalue, a.value_weight)])
    dattention = Attention(*from_query.linears[0], *from_text.linears[0], *from_text.linears[1], dout_weight, dout_bias)
    dvision = (from_query.x + gradient.float()).to(vision.dtype)
    return dvision, text_side.Grads(from_text.x, dattention, from_query.norm, from_text.norm), dgamma


def _out_backward(
    gradient: Tensor, vision: Tensor, attended: Tensor, p: Parameters
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of what the attention gave, of the output projection's two, and of the gate."""
    if p.inner > RANK_LIMIT:
        wide, a = gradient.float(), p.attention
        out = text_side.linear(attended.float(), a.out_weight, a.out_bias)
        moved = text_side.linear_backward(wide * p.gamma.float(), attended.float(), a.out_weight)
        return moved[0].to(attended.dtype), moved[1], moved[2], (wide * out).sum((0, 1))
    kind = bottlenecks.Kind("identity", "identity", 1, 0.0, p.compute)
    dattended, packed = bottlenecks.backward(gradient, vision, attended, _out_weights(p), kind, True)
    out = bottlenecks.unpack(packed.float(), _out_weights(p))
    assert out.scale is not None
    return dattended, out.up, out.up_bias, out.scale
