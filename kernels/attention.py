"""Launches of the flash-style attention, and the linears in front of it, which are cuBLAS's work."""

# pyright: reportCallIssue=false

import torch
import triton
from torch import Tensor

from . import tiles
from .attention_kernels import attend_backward_keys, attend_backward_queries, attend_forward
from .forms import power_of_two
from .launch import DTYPES, precision
from .reference import Norm


def project(x: Tensor, norm: Norm, weights: list[tuple[Tensor, Tensor]], dtype: torch.dtype) -> list[Tensor]:
    """Return linear(LN x) in `dtype` for each (weight, bias): what the forms beyond the absorbed ones start from."""
    normed = torch.nn.functional.layer_norm(x.to(norm.weight.dtype), x.shape[-1:], norm.weight, norm.bias, norm.eps).to(
        dtype
    )
    return [torch.nn.functional.linear(normed, w.to(dtype), b.to(dtype)) for w, b in weights]


def _constants(query: Tensor, heads: int) -> dict:
    """Return the constants that all three kernels share."""
    head = query.shape[-1] // heads
    return {
        "HEADS": heads,
        "HEAD": head,
        "SCALE": head**-0.5,
        "COMPUTE": DTYPES[query.dtype],
        "PRECISION": precision(query.dtype),
        "BLOCK_HEAD": power_of_two(head, 16),
    }


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, heads: int) -> tuple[Tensor, Tensor]:
    """Return `reference.attend` (batch, queries, inner) and the log of each row's sum, fp32 (batch, heads, queries)."""
    batch, count, inner = query.shape
    y = torch.empty_like(query)
    logsum = torch.empty((batch, heads, count), dtype=torch.float32, device=query.device)
    tile = tiles.choose("attend", query.device, query.dtype, inner // heads, count, batch)
    attend_forward[(triton.cdiv(count, tile.rows), heads, batch)](
        query,
        key,
        value,
        mask,
        count,
        key.shape[1],
        y,
        logsum,
        ROWS=tile.rows,
        KEYS=tile.block,
        num_warps=tile.warps,
        num_stages=tile.stages,
        **_constants(query, heads),
    )
    return y, logsum


def attend_backward(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, y: Tensor, logsum: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of query, key and value; `y` and `logsum` are what `attend` returned."""
    batch, heads, count = logsum.shape
    tile = tiles.choose("attend", query.device, query.dtype, query.shape[-1] // heads, count, batch)
    dquery, dkey, dvalue = (torch.empty_like(t) for t in (query, key, value))
    options = {
        "ROWS": tile.rows,
        "KEYS": tile.block,
        "num_warps": tile.warps,
        "num_stages": tile.stages,
        **_constants(query, heads),
    }
    arguments = (query, key, value, mask, y, gradient.contiguous(), logsum, count, key.shape[1])
    attend_backward_queries[(triton.cdiv(count, tile.rows), heads, batch)](*arguments, dquery, **options)
    attend_backward_keys[(triton.cdiv(key.shape[1], tile.block), heads, batch)](*arguments, dkey, dvalue, **options)
    return dquery, dkey, dvalue
