"""The bottleneck's forward kernel; `bottleneck_gradients.py` has the backward ones.

All of them serve the adapter with its own down-projection, the folded form that is handed the hidden (`hidden_ptr`
given, `down_ptr` None) and the adapter made from the text (weights per batch, inner activation "softmax"). A pointer
that is None costs nothing: its branch is gone at compile time. Arguments come as inputs, integers, outputs, constants,
the order that a TensorRT plugin calls with.
"""

# pyright: reportArgumentType=false, reportOperatorIssue=false, reportIndexIssue=false, reportOptionalOperand=false, reportCallIssue=false

import triton
import triton.language as tl

from .parts import activate, grouped_softmax, row_statistics


@triton.jit
def before_activation(
    x_base,
    row_mask,
    ranks,
    norm_weight_ptr,
    norm_bias_ptr,
    down_base,
    down_bias_base,
    mean,
    rstd,
    WIDTH: tl.constexpr,
    RANK: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_RANK: tl.constexpr,
    COMPUTE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return norm(x) D + d [ROWS, BLOCK_RANK] in fp32; columns past RANK are zero."""
    rank_mask = ranks < RANK
    z = tl.zeros((ROWS, BLOCK_RANK), tl.float32)
    for start in range(0, WIDTH, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        column_mask = columns < WIDTH
        x = tl.load(x_base[:, None] + columns[None, :], mask=row_mask[:, None] & column_mask[None, :], other=0.0)
        if norm_weight_ptr is not None:
            weight = tl.load(norm_weight_ptr + columns, mask=column_mask, other=0.0).to(tl.float32)
            bias = tl.load(norm_bias_ptr + columns, mask=column_mask, other=0.0).to(tl.float32)
            x = (x.to(tl.float32) - mean[:, None]) * rstd[:, None] * weight[None, :] + bias[None, :]
        down = tl.load(
            down_base + ranks[None, :] * WIDTH + columns[:, None],
            mask=rank_mask[None, :] & column_mask[:, None],
            other=0.0,
        )  # [BLOCK, BLOCK_RANK]
        z = tl.dot(x.to(COMPUTE), down.to(COMPUTE), z, input_precision=PRECISION)
    return z + tl.load(down_bias_base + ranks, mask=rank_mask, other=0.0).to(tl.float32)[None, :]


@triton.jit
def bottleneck_forward(
    x_ptr,
    hidden_ptr,
    residual_ptr,
    norm_weight_ptr,
    norm_bias_ptr,
    down_ptr,
    down_bias_ptr,
    up_ptr,
    up_bias_ptr,
    scale_ptr,
    tokens,
    x_batch,
    x_row,
    hidden_batch,
    hidden_row,
    residual_batch,
    residual_row,
    y_batch,
    y_row,
    weight_batch,
    scale_stride,
    y_ptr,
    WIDTH: tl.constexpr,
    RANK: tl.constexpr,
    INNER: tl.constexpr,
    OUTER: tl.constexpr,
    GROUPS: tl.constexpr,
    EPS: tl.constexpr,
    COMPUTE: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK_RANK: tl.constexpr,
):
    """Write y = residual + x + scale * outer(inner(norm(x) D + d) U + u) for ROWS rows and COLUMNS columns.

    Grid: (row tiles, batch, column shares). Each column share computes the hidden of its rows again, which buys
    parallelism when the rows are few.
    """
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    batch = tl.program_id(1).to(tl.int64)
    first = tl.program_id(2) * COLUMNS
    row_mask = rows < tokens
    ranks = tl.arange(0, BLOCK_RANK)
    rank_mask = ranks < RANK
    x_base = x_ptr + batch * x_batch + rows * x_row
    y_base = y_ptr + batch * y_batch + rows * y_row
    up_base = up_ptr + batch * weight_batch * WIDTH * RANK

    if hidden_ptr is not None:
        hidden_base = hidden_ptr + batch * hidden_batch + rows * hidden_row
        z = tl.load(hidden_base[:, None] + ranks[None, :], mask=row_mask[:, None] & rank_mask[None, :], other=0.0).to(
            tl.float32
        )
    else:
        mean = tl.zeros((ROWS,), tl.float32)
        rstd = mean
        if norm_weight_ptr is not None:
            mean, rstd = row_statistics(x_base, row_mask, WIDTH, ROWS, BLOCK, EPS)
        z = before_activation(
            x_base,
            row_mask,
            ranks,
            norm_weight_ptr,
            norm_bias_ptr,
            down_ptr + batch * weight_batch * RANK * WIDTH,
            down_bias_ptr + batch * weight_batch * RANK,
            mean,
            rstd,
            WIDTH,
            RANK,
            ROWS,
            BLOCK,
            BLOCK_RANK,
            COMPUTE,
            PRECISION,
        )
    h = grouped_softmax(z, ROWS, BLOCK_RANK, GROUPS) if INNER == "softmax" else activate(z, INNER)
    h = h.to(COMPUTE)  # [ROWS, BLOCK_RANK]

    for start in range(0, COLUMNS, BLOCK):
        columns = first + start + tl.arange(0, BLOCK)
        column_mask = columns < WIDTH
        mask = row_mask[:, None] & column_mask[None, :]
        up = tl.load(
            up_base + columns[None, :] * RANK + ranks[:, None],
            mask=rank_mask[:, None] & column_mask[None, :],
            other=0.0,
        )  # [BLOCK_RANK, BLOCK]
        p = tl.dot(h, up.to(COMPUTE), input_precision=PRECISION)
        p += tl.load(up_bias_ptr + columns, mask=column_mask, other=0.0).to(tl.float32)[None, :]
        y = activate(p, OUTER)
        if scale_ptr is not None:
            y *= tl.load(scale_ptr + columns * scale_stride, mask=column_mask, other=0.0).to(tl.float32)[None, :]
        y += tl.load(x_base[:, None] + columns[None, :], mask=mask, other=0.0).to(tl.float32)
        if residual_ptr is not None:
            residual_base = residual_ptr + batch * residual_batch + rows * residual_row
            y += tl.load(residual_base[:, None] + columns[None, :], mask=mask, other=0.0).to(tl.float32)
        tl.store(y_base[:, None] + columns[None, :], y.to(y_ptr.dtype.element_ty), mask=mask)
