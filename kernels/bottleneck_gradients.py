"""The bottleneck's backward kernels, one over rows and one over columns; arguments as `bottleneck_kernels.py` says."""

# pyright: reportArgumentType=false, reportOperatorIssue=false, reportIndexIssue=false, reportOptionalOperand=false, reportCallIssue=false

import triton
import triton.language as tl

from .bottleneck_kernels import before_activation
from .parts import activate, grouped_softmax, grouped_softmax_backward, row_statistics, slope


@triton.jit
def bottleneck_backward_rows(
    x_ptr,
    hidden_ptr,
    norm_weight_ptr,
    norm_bias_ptr,
    down_ptr,
    down_bias_ptr,
    up_ptr,
    up_bias_ptr,
    scale_ptr,
    gradient_ptr,
    tokens,
    x_batch,
    x_row,
    hidden_batch,
    hidden_row,
    gradient_batch,
    gradient_row,
    weight_batch,
    scale_stride,
    dx_ptr,
    h_ptr,
    dz_ptr,
    statistics_ptr,
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
    BLOCK_RANK: tl.constexpr,
):
    """Write dx (not for a given hidden) and, for the columns' kernel, h, dz (batch, tokens, RANK), mean and 1 / std.

    Grid: (row tiles, batch). The hidden is computed again, and stays in registers. The two row sums that the layer
    norm's backward needs come from dz: sum(dn w) = dz (D w), sum(dn w x^) = dz (z - d - D b).
    """
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    batch = tl.program_id(1).to(tl.int64)
    row_mask = rows < tokens
    ranks = tl.arange(0, BLOCK_RANK)
    rank_mask = ranks < RANK
    scratch = batch * tokens + rows
    scratch_mask = row_mask[:, None] & rank_mask[None, :]
    x_base = x_ptr + batch * x_batch + rows * x_row
    gradient_base = gradient_ptr + batch * gradient_batch + rows * gradient_row
    down_base = None if down_ptr is None else down_ptr + batch * weight_batch * RANK * WIDTH
    up_base = up_ptr + batch * weight_batch * WIDTH * RANK

    mean = tl.zeros((ROWS,), tl.float32)
    rstd = mean
    if hidden_ptr is not None:
        hidden_base = hidden_ptr + batch * hidden_batch + rows * hidden_row
        z = tl.load(hidden_base[:, None] + ranks[None, :], mask=scratch_mask, other=0.0).to(tl.float32)
    else:
        if norm_weight_ptr is not None:
            mean, rstd = row_statistics(x_base, row_mask, WIDTH, ROWS, BLOCK, EPS)
            tl.store(statistics_ptr + scratch * 2, mean, mask=row_mask)
            tl.store(statistics_ptr + scratch * 2 + 1, rstd, mask=row_mask)
        z = before_activation(
            x_base,
            row_mask,
            ranks,
            norm_weight_ptr,
            norm_bias_ptr,
            down_base,
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
    h32 = grouped_softmax(z, ROWS, BLOCK_RANK, GROUPS) if INNER == "softmax" else activate(z, INNER)
    h = h32.to(COMPUTE)  # [ROWS, BLOCK_RANK]
    tl.store(h_ptr + scratch[:, None] * RANK + ranks[None, :], h, mask=scratch_mask)

    dh = tl.zeros((ROWS, BLOCK_RANK), tl.float32)
    for start in range(0, WIDTH, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        column_mask = columns < WIDTH
        mask = row_mask[:, None] & column_mask[None, :]
        up = tl.load(
            up_base + columns[:, None] * RANK + ranks[None, :],
            mask=column_mask[:, None] & rank_mask[None, :],
            other=0.0,
        ).to(COMPUTE)  # [BLOCK, BLOCK_RANK]
        dp = tl.load(gradient_base[:, None] + columns[None, :], mask=mask, other=0.0).to(tl.float32)
        if scale_ptr is not None:
            dp *= tl.load(scale_ptr + columns * scale_stride, mask=column_mask, other=0.0).to(tl.float32)[None, :]
        if OUTER != "identity":
            p = tl.dot(h, tl.trans(up), input_precision=PRECISION)
            p += tl.load(up_bias_ptr + columns, mask=column_mask, other=0.0).to(tl.float32)[None, :]
            dp *= slope(p, OUTER)
        dh = tl.dot(dp.to(COMPUTE), up, dh, input_precision=PRECISION)

    dz32 = grouped_softmax_backward(h32, dh, ROWS, BLOCK_RANK, GROUPS) if INNER == "softmax" else dh * slope(z, INNER)
    dz = dz32.to(dz_ptr.dtype.element_ty)
    tl.store(dz_ptr + scratch[:, None] * RANK + ranks[None, :], dz, mask=scratch_mask)

    if hidden_ptr is None:
        dx_base = dx_ptr + scratch * WIDTH
        along_one = tl.zeros((ROWS,), tl.float32)
        along_x = tl.zeros((ROWS,), tl.float32)
        if norm_weight_ptr is not None:
            weight_sum = tl.zeros((BLOCK_RANK,), tl.float32)
            bias_sum = tl.load(down_bias_ptr + batch * weight_batch * RANK + ranks, mask=rank_mask, other=0.0)
            bias_sum = tl.where(bias_sum == float("-inf"), 0.0, bias_sum.to(tl.float32))
            for start in range(0, WIDTH, BLOCK):
                columns = start + tl.arange(0, BLOCK)
                column_mask = columns < WIDTH
                weight = tl.load(norm_weight_ptr + columns, mask=column_mask, other=0.0).to(tl.float32)
                bias = tl.load(norm_bias_ptr + columns, mask=column_mask, other=0.0).to(tl.float32)
                down = tl.load(
                    down_base + ranks[:, None] * WIDTH + columns[None, :],
                    mask=rank_mask[:, None] & column_mask[None, :],
                    other=0.0,
                ).to(tl.float32)
                weight_sum += tl.sum(down * weight[None, :], axis=1)
                bias_sum += tl.sum(down * bias[None, :], axis=1)
            seen = tl.where(z == float("-inf"), 0.0, z - bias_sum[None, :])
            along_one = tl.sum(dz32 * weight_sum[None, :], axis=1) / WIDTH
            along_x = tl.sum(dz32 * seen, axis=1) / WIDTH
        for start in range(0, WIDTH, BLOCK):
            columns = start + tl.arange(0, BLOCK)
            column_mask = columns < WIDTH
            mask = row_mask[:, None] & column_mask[None, :]
            down = tl.load(
                down_base + ranks[:, None] * WIDTH + columns[None, :],
                mask=rank_mask[:, None] & column_mask[None, :],
                other=0.0,
            )  # [BLOCK_RANK, BLOCK]
            dn = tl.dot(dz.to(COMPUTE), down.to(COMPUTE), input_precision=PRECISION)
            if norm_weight_ptr is not None:
                weight = tl.load(norm_weight_ptr + columns, mask=column_mask, other=0.0).to(tl.float32)
                x = tl.load(x_base[:, None] + columns[None, :], mask=mask, other=0.0).to(tl.float32)
                normed = (x - mean[:, None]) * rstd[:, None]
                dn = rstd[:, None] * (dn * weight[None, :] - along_one[:, None] - normed * along_x[:, None])
            dx = dn + tl.load(gradient_base[:, None] + columns[None, :], mask=mask, other=0.0).to(tl.float32)
            tl.store(dx_base[:, None] + columns[None, :], dx.to(dx_ptr.dtype.element_ty), mask=mask)


@triton.jit
def bottleneck_backward_columns(
    x_ptr,
    norm_weight_ptr,
    norm_bias_ptr,
    down_ptr,
    up_ptr,
    up_bias_ptr,
    scale_ptr,
    gradient_ptr,
    h_ptr,
    dz_ptr,
    statistics_ptr,
    tokens,
    rows_per_split,
    splits,
    x_batch,
    x_row,
    gradient_batch,
    gradient_row,
    weight_batch,
    scale_stride,
    partial_ptr,
    partial_row,
    WIDTH: tl.constexpr,
    RANK: tl.constexpr,
    OUTER: tl.constexpr,
    COMPUTE: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_RANK: tl.constexpr,
):
    """Write the weight gradients of BLOCK columns over one split of the rows into that split's row of `partial`.

    Grid: (column tiles, splits, batch). A row of `partial`, fp32, holds dU (WIDTH, RANK), du (WIDTH), dscale (WIDTH) if
    any, then dD (RANK, WIDTH), dd (RANK), and with a norm its dweight and dbias (WIDTH each). Splits are summed
    afterwards in a fixed order: no atomics, the same bits every time. With E = dz^T x^ (x^ the normalised x),
    dD = E w + dd b^T, dw = sum over the rank of D E, db = dd D.
    """
    column_tile = tl.program_id(0)
    split = tl.program_id(1)
    batch = tl.program_id(2).to(tl.int64)
    columns = column_tile * BLOCK + tl.arange(0, BLOCK)
    column_mask = columns < WIDTH
    ranks = tl.arange(0, BLOCK_RANK)
    rank_mask = ranks < RANK
    up_mask = column_mask[:, None] & rank_mask[None, :]
    x_base = x_ptr + batch * x_batch
    gradient_base = gradient_ptr + batch * gradient_batch
    up = tl.load(
        up_ptr + batch * weight_batch * WIDTH * RANK + columns[:, None] * RANK + ranks[None, :], mask=up_mask, other=0.0
    ).to(COMPUTE)  # [BLOCK, BLOCK_RANK]
    up_bias = tl.load(up_bias_ptr + columns, mask=column_mask, other=0.0).to(tl.float32)
    scale = up_bias
    if scale_ptr is not None:
        scale = tl.load(scale_ptr + columns * scale_stride, mask=column_mask, other=0.0).to(tl.float32)

    d_up = tl.zeros((BLOCK, BLOCK_RANK), tl.float32)
    d_down = tl.zeros((BLOCK, BLOCK_RANK), tl.float32)
    d_up_bias = tl.zeros((BLOCK,), tl.float32)
    d_scale = tl.zeros((BLOCK,), tl.float32)
    d_down_bias = tl.zeros((BLOCK_RANK,), tl.float32)
    for start in range(0, rows_per_split, ROWS):
        rows = split.to(tl.int64) * rows_per_split + start + tl.arange(0, ROWS)
        row_mask = rows < tokens
        mask = row_mask[:, None] & column_mask[None, :]
        scratch = batch * tokens + rows
        h = tl.load(
            h_ptr + scratch[:, None] * RANK + ranks[None, :], mask=row_mask[:, None] & rank_mask[None, :], other=0.0
        )  # [ROWS, BLOCK_RANK]
        g = tl.load(gradient_base + rows[:, None] * gradient_row + columns[None, :], mask=mask, other=0.0)
        dp = g.to(tl.float32)
        if OUTER != "identity" or scale_ptr is not None:
            p = tl.dot(h, tl.trans(up), input_precision=PRECISION) + up_bias[None, :]
            if scale_ptr is not None:
                d_scale += tl.sum(dp * activate(p, OUTER), axis=0)
                dp *= scale[None, :]
            dp *= slope(p, OUTER)
        d_up_bias += tl.sum(dp, axis=0)
        d_up = tl.dot(tl.trans(dp.to(COMPUTE)), h, d_up, input_precision=PRECISION)
        if down_ptr is not None:
            dz = tl.load(
                dz_ptr + scratch[:, None] * RANK + ranks[None, :],
                mask=row_mask[:, None] & rank_mask[None, :],
                other=0.0,
            )
            x = tl.load(x_base + rows[:, None] * x_row + columns[None, :], mask=mask, other=0.0)
            if norm_weight_ptr is not None:
                mean = tl.load(statistics_ptr + scratch * 2, mask=row_mask, other=0.0)
                rstd = tl.load(statistics_ptr + scratch * 2 + 1, mask=row_mask, other=0.0)
                x = (x.to(tl.float32) - mean[:, None]) * rstd[:, None]
            d_down = tl.dot(tl.trans(x.to(COMPUTE)), dz.to(COMPUTE), d_down, input_precision=PRECISION)
            d_down_bias += tl.sum(dz.to(tl.float32), axis=0)

    out = partial_ptr + (batch * splits + split) * partial_row
    tl.store(out + columns[:, None] * RANK + ranks[None, :], d_up, mask=up_mask)
    out += WIDTH * RANK
    tl.store(out + columns, d_up_bias, mask=column_mask)
    out += WIDTH
    if scale_ptr is not None:
        tl.store(out + columns, d_scale, mask=column_mask)
        out += WIDTH
    if down_ptr is not None:
        if norm_weight_ptr is not None:
            down = tl.load(
                down_ptr + batch * weight_batch * RANK * WIDTH + ranks[None, :] * WIDTH + columns[:, None],
                mask=up_mask,
                other=0.0,
            ).to(tl.float32)  # [BLOCK, BLOCK_RANK]
            weight = tl.load(norm_weight_ptr + columns, mask=column_mask, other=0.0).to(tl.float32)
            bias = tl.load(norm_bias_ptr + columns, mask=column_mask, other=0.0).to(tl.float32)
            norm_out = out + RANK * WIDTH + RANK
            tl.store(norm_out + columns, tl.sum(down * d_down, axis=1), mask=column_mask)
            tl.store(norm_out + WIDTH + columns, tl.sum(down * d_down_bias[None, :], axis=1), mask=column_mask)
            d_down = d_down * weight[:, None] + d_down_bias[None, :] * bias[:, None]
        tl.store(out + ranks[None, :] * WIDTH + columns[:, None], d_down, mask=up_mask)
        if column_tile == 0:
            tl.store(out + RANK * WIDTH + ranks, d_down_bias, mask=rank_mask)
