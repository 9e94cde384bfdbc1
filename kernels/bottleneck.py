"""Launches of the bottleneck's kernels: tensors in, tensors out."""

# pyright: reportCallIssue=false

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from . import tiles
from .bottleneck_gradients import bottleneck_backward_columns, bottleneck_backward_rows
from .bottleneck_kernels import bottleneck_forward
from .forms import power_of_two
from .launch import DTYPES, as_batches, precision, rows_contiguous, splits_for, strides


class Weights(NamedTuple):
    """What a bottleneck is made of; with a leading batch axis where each image has its own (the text's adapter).

    down (rank, width) or None for the folded form, down_bias (rank,), up (width, rank), up_bias (width,), scale
    (width,) of any stride, norm_weight and norm_bias (width,).
    """

    down: Tensor | None
    down_bias: Tensor | None
    up: Tensor
    up_bias: Tensor
    scale: Tensor | None
    norm_weight: Tensor | None
    norm_bias: Tensor | None

    @property
    def own(self) -> bool:
        """Whether each batch entry has its own down and up."""
        return self.up.ndim == 3

    def contiguous(self) -> "Weights":
        """Return the same with every matrix and vector packed, the scale left as it is."""
        named = self._replace(scale=None)._asdict().items()
        return self._replace(**{name: t.contiguous() for name, t in named if t is not None})


class Kind(NamedTuple):
    """The constants of a bottleneck: activations, softmax groups (inner "softmax"), epsilon, dtype of the products."""

    inner: str
    outer: str
    groups: int
    eps: float
    compute: torch.dtype


def _constants(weights: Weights, kind: Kind) -> dict:
    """Return the constants that all three kernels share."""
    rank = weights.up.shape[-1]
    return {
        "WIDTH": weights.up.shape[-2],
        "RANK": rank,
        "OUTER": kind.outer,
        "COMPUTE": DTYPES[kind.compute],
        "PRECISION": precision(kind.compute),
        "BLOCK_RANK": power_of_two(rank, 16),
    }


def forward(x: Tensor, hidden: Tensor | None, residual: Tensor | None, weights: Weights, kind: Kind) -> Tensor:
    """Return the bottleneck of `x` (..., width), in the common dtype of `x` and `residual`."""
    dtype = x.dtype if residual is None else torch.promote_types(x.dtype, residual.dtype)
    out = torch.empty(x.shape, dtype=dtype, device=x.device)
    if x.numel() == 0:
        return out
    w = weights.contiguous()
    x3, hidden3, residual3, y3 = _batched(w.own, x, hidden, residual, out)
    assert x3 is not None and y3 is not None
    batch, tokens, width = x3.shape
    tile = tiles.choose("bottleneck_forward", x.device, kind.compute, w.up.shape[-1], tokens, batch)
    columns = -(-width // (tile.shares * tile.block)) * tile.block
    grid = (triton.cdiv(tokens, tile.rows), batch, triton.cdiv(width, columns))
    bottleneck_forward[grid](
        x3,
        hidden3,
        residual3,
        w.norm_weight,
        w.norm_bias,
        w.down,
        w.down_bias,
        w.up,
        w.up_bias,
        w.scale,
        tokens,
        *strides(x3),
        *strides(hidden3),
        *strides(residual3),
        *strides(y3),
        int(w.own),
        0 if w.scale is None else w.scale.stride(0),
        y3,
        INNER=kind.inner,
        GROUPS=kind.groups,
        EPS=kind.eps,
        ROWS=tile.rows,
        BLOCK=tile.block,
        COLUMNS=columns,
        num_warps=tile.warps,
        num_stages=tile.stages,
        **_constants(w, kind),
    )
    return out


def backward(
    gradient: Tensor, x: Tensor, hidden: Tensor | None, weights: Weights, kind: Kind, wanted: bool
) -> tuple[Tensor, Tensor]:
    """Return the gradient of `x` (of `hidden` where one is given) and the weights' (batch or 1, n), see `unpack`.

    The second is empty where `wanted` is False. `gradient` has the shape of `x`.
    """
    w = weights.contiguous()
    target = x if hidden is None else hidden
    if x.numel() == 0:
        shape = (w.up.shape[0] if w.own else 1, packed_size(w) if wanted else 0)
        empty = torch.empty(target.shape, dtype=target.dtype, device=x.device)
        return empty, torch.zeros(shape, dtype=w.up.dtype, device=x.device)
    g3, x3, hidden3 = _batched(w.own, rows_contiguous(gradient), x, hidden)
    assert g3 is not None and x3 is not None
    batch, tokens, _width = x3.shape
    rank = w.up.shape[-1]
    h = torch.empty((batch, tokens, rank), dtype=kind.compute, device=x.device)
    dz = torch.empty_like(h, dtype=kind.compute if hidden is None else hidden.dtype)
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device) if hidden is None else None
    statistics = None
    if w.norm_weight is not None:
        statistics = torch.empty((batch, tokens, 2), dtype=torch.float32, device=x.device)
    tile = tiles.choose("bottleneck_backward_rows", x.device, kind.compute, rank, tokens, batch)
    bottleneck_backward_rows[(triton.cdiv(tokens, tile.rows), batch)](
        x3,
        hidden3,
        w.norm_weight,
        w.norm_bias,
        w.down,
        w.down_bias,
        w.up,
        w.up_bias,
        w.scale,
        g3,
        tokens,
        *strides(x3),
        *strides(hidden3),
        *strides(g3),
        int(w.own),
        0 if w.scale is None else w.scale.stride(0),
        dx,
        h,
        dz,
        statistics,
        INNER=kind.inner,
        GROUPS=kind.groups,
        EPS=kind.eps,
        ROWS=tile.rows,
        BLOCK=tile.block,
        num_warps=tile.warps,
        num_stages=tile.stages,
        **_constants(w, kind),
    )
    dtarget = dz.view(target.shape) if dx is None else dx
    if not wanted:
        return dtarget, w.up.new_empty((1, 0))
    return dtarget, _weight_gradients(g3, x3, h, dz, statistics, w, kind)


def _weight_gradients(
    g3: Tensor, x3: Tensor, h: Tensor, dz: Tensor, statistics: Tensor | None, w: Weights, kind: Kind
) -> Tensor:
    """Return the packed weight gradients (batch or 1, n): partial sums in fp32, then one sum in a fixed order."""
    batch, tokens, width = x3.shape
    tile = tiles.choose("bottleneck_backward_columns", x3.device, kind.compute, w.up.shape[-1], tokens, batch)
    column_tiles = triton.cdiv(width, tile.block)
    splits, rows_each = splits_for(tokens, tile.rows, column_tiles * batch)
    size = packed_size(w)
    partial = torch.empty((batch, splits, size), dtype=torch.float32, device=x3.device)
    bottleneck_backward_columns[(column_tiles, splits, batch)](
        x3,
        w.norm_weight,
        w.norm_bias,
        w.down,
        w.up,
        w.up_bias,
        w.scale,
        g3,
        h,
        dz,
        statistics,
        tokens,
        rows_each,
        splits,
        *strides(x3),
        *strides(g3),
        int(w.own),
        0 if w.scale is None else w.scale.stride(0),
        partial,
        size,
        ROWS=tile.rows,
        BLOCK=tile.block,
        num_warps=tile.warps,
        num_stages=tile.stages,
        **_constants(w, kind),
    )
    total = partial.sum(1) if w.own else partial.sum((0, 1)).unsqueeze(0)
    return total.to(w.up.dtype)


def _batched(own: bool, *tensors: Tensor | None) -> list[Tensor | None]:
    """Return (batch, rows, width) views; the batch axis is kept where each image has its own weights."""
    return list(tensors) if own else as_batches(*tensors)


def packed_size(weights: Weights) -> int:
    """Return the length of the packed weight gradients."""
    return sum(_sizes(weights))


def _sizes(weights: Weights) -> list[int]:
    """Return the lengths of the packed gradients in their order: up, up_bias, scale, down, down_bias, norm's two."""
    width, rank = weights.up.shape[-2:]
    scale = 0 if weights.scale is None else width
    down = 0 if weights.down is None else width * rank
    norm = 0 if weights.norm_weight is None else width
    return [width * rank, width, scale, down, rank if down else 0, norm, norm]


def unpack(packed: Tensor, weights: Weights) -> Weights:
    """Return the packed gradients as views of the weights' shapes; None where there is no weight."""
    up, up_bias, scale, down, down_bias, norm_weight, norm_bias = packed.split(_sizes(weights), dim=1)
    shared = (
        (scale.sum(0), norm_weight.sum(0), norm_bias.sum(0))
        if weights.own
        else (scale[0], norm_weight[0], norm_bias[0])
    )
    width, rank = weights.up.shape[-2:]
    matrix = (-1,) if weights.own else ()
    return Weights(
        down=None if weights.down is None else down.reshape(*matrix, rank, width),
        down_bias=None if weights.down is None else down_bias.reshape(*matrix, rank),
        up=up.reshape(*matrix, width, rank),
        up_bias=up_bias.sum(0) if weights.own else up_bias[0],
        scale=None if weights.scale is None else shared[0],
        norm_weight=None if weights.norm_weight is None else shared[1],
        norm_bias=None if weights.norm_weight is None else shared[2],
    )
