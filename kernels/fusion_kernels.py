"""Kernels of the gated cross-attention: the closed form for one text token, and the adapter made from few.

Both do their small text work in fp32 vectors, one text row to a program, and leave the image to one pass.
"""

# pyright: reportArgumentType=false, reportOperatorIssue=false, reportIndexIssue=false, reportOptionalOperand=false

import triton
import triton.language as tl


@triton.jit
def normed_row(x_ptr, weight_ptr, bias_ptr, columns, WIDTH: tl.constexpr, EPS: tl.constexpr):
    """Return the layer norm of one row in fp32; `columns` covers it, rounded up to a power of two."""
    mask = columns < WIDTH
    x = tl.load(x_ptr + columns, mask=mask, other=0.0).to(tl.float32)
    centred = tl.where(mask, x - tl.sum(x, axis=0) / WIDTH, 0.0)
    rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=0) / WIDTH + EPS)
    weight = tl.load(weight_ptr + columns, mask=mask, other=0.0).to(tl.float32)
    return centred * rstd * weight + tl.load(bias_ptr + columns, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def linear_part(row, weight_ptr, bias_ptr, units, unit_mask, columns, column_mask, WIDTH: tl.constexpr):
    """Return row W^T + b for the output units `units` of a linear layer (out, WIDTH), in fp32."""
    weight = tl.load(
        weight_ptr + units[:, None] * WIDTH + columns[None, :],
        mask=unit_mask[:, None] & column_mask[None, :],
        other=0.0,
    ).to(tl.float32)  # [units, columns]
    return tl.sum(weight * row[None, :], axis=1) + tl.load(bias_ptr + units, mask=unit_mask, other=0.0).to(tl.float32)


@triton.jit
def closed_forward(
    vision_ptr,
    text_ptr,
    norm_weight_ptr,
    norm_bias_ptr,
    value_weight_ptr,
    value_bias_ptr,
    out_weight_ptr,
    out_bias_ptr,
    gamma_ptr,
    mask_ptr,
    tokens,
    rows_per_share,
    vision_batch,
    vision_row,
    text_batch,
    y_ptr,
    WIDTH: tl.constexpr,
    INNER: tl.constexpr,
    EPS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_INNER: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
):
    """Write V + gamma * out(value(LN L)) for one text token: the softmax over one key is 1.

    Grid: (column tiles, row shares, batch). Each program makes its own columns of the one vector of its image, then
    adds it to the rows of its share.
    """
    columns = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    share = tl.program_id(1).to(tl.int64)
    batch = tl.program_id(2).to(tl.int64)
    column_mask = columns < WIDTH
    everything = tl.arange(0, BLOCK_WIDTH)
    normed = normed_row(text_ptr + batch * text_batch, norm_weight_ptr, norm_bias_ptr, everything, WIDTH, EPS)
    update = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, INNER, BLOCK_INNER):
        units = start + tl.arange(0, BLOCK_INNER)
        unit_mask = units < INNER
        value = linear_part(
            normed, value_weight_ptr, value_bias_ptr, units, unit_mask, everything, everything < WIDTH, WIDTH
        )
        out = tl.load(
            out_weight_ptr + columns[:, None] * INNER + units[None, :],
            mask=column_mask[:, None] & unit_mask[None, :],
            other=0.0,
        ).to(tl.float32)
        update += tl.sum(out * value[None, :], axis=1)
    if mask_ptr is not None:
        update *= tl.load(mask_ptr + batch).to(tl.float32)
    update += tl.load(out_bias_ptr + columns, mask=column_mask, other=0.0).to(tl.float32)
    update *= tl.load(gamma_ptr + columns, mask=column_mask, other=0.0).to(tl.float32)

    for start in range(0, rows_per_share, ROWS):
        rows = share * rows_per_share + start + tl.arange(0, ROWS)
        mask = (rows < tokens)[:, None] & column_mask[None, :]
        vision = tl.load(
            vision_ptr + batch * vision_batch + rows[:, None] * vision_row + columns[None, :], mask=mask, other=0.0
        )
        y = (vision.to(tl.float32) + update[None, :]).to(y_ptr.dtype.element_ty)
        tl.store(y_ptr + (batch * tokens + rows)[:, None] * WIDTH + columns[None, :], y, mask=mask)


@triton.jit
def text_adapter(
    text_ptr,
    norm_weight_ptr,
    norm_bias_ptr,
    query_weight_ptr,
    query_bias_ptr,
    key_weight_ptr,
    key_bias_ptr,
    value_weight_ptr,
    value_bias_ptr,
    out_weight_ptr,
    out_bias_ptr,
    gamma_ptr,
    mask_ptr,
    text_batch,
    text_row,
    down_ptr,
    down_bias_ptr,
    up_ptr,
    up_bias_ptr,
    WIDTH: tl.constexpr,
    TOKENS: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    SCALE: tl.constexpr,
    EPS: tl.constexpr,
    TOKEN_SLOTS: tl.constexpr,
    RANK: tl.constexpr,
    BLOCK_INNER: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
):
    """Write the bottleneck that few text tokens make (`reference.text_adapter`), RANK = head slots x TOKEN_SLOTS.

    Grid: (RANK, batch), one hidden unit to a program: its row of down, its bias, its column of up. An empty slot or a
    masked token gets the bias minus infinity, which its softmax turns into nothing.
    """
    unit = tl.program_id(0)
    batch = tl.program_id(1).to(tl.int64)
    head = unit // TOKEN_SLOTS
    token = unit % TOKEN_SLOTS
    real = (head < HEADS) & (token < TOKENS)
    columns = tl.arange(0, BLOCK_WIDTH)
    column_mask = columns < tl.where(real, WIDTH, 0)
    row = tl.where(real, token, 0)
    normed = normed_row(
        text_ptr + batch * text_batch + row.to(tl.int64) * text_row, norm_weight_ptr, norm_bias_ptr, columns, WIDTH, EPS
    )
    down = tl.zeros((BLOCK_WIDTH,), tl.float32)
    up = tl.zeros((BLOCK_WIDTH,), tl.float32)
    products = tl.zeros((BLOCK_INNER,), tl.float32)
    for start in range(0, HEAD, BLOCK_INNER):
        within = start + tl.arange(0, BLOCK_INNER)
        units = head * HEAD + within
        unit_mask = within < tl.where(real, HEAD, 0)
        key = SCALE * linear_part(normed, key_weight_ptr, key_bias_ptr, units, unit_mask, columns, column_mask, WIDTH)
        value = linear_part(normed, value_weight_ptr, value_bias_ptr, units, unit_mask, columns, column_mask, WIDTH)
        query = tl.load(
            query_weight_ptr + units[:, None] * WIDTH + columns[None, :],
            mask=unit_mask[:, None] & column_mask[None, :],
            other=0.0,
        ).to(tl.float32)
        down += tl.sum(query * key[:, None], axis=0)
        products += key * tl.load(query_bias_ptr + units, mask=unit_mask, other=0.0).to(tl.float32)
        out = tl.load(
            out_weight_ptr + columns[None, :] * (HEADS * HEAD) + units[:, None],
            mask=unit_mask[:, None] & column_mask[None, :],
            other=0.0,
        ).to(tl.float32)
        up += tl.sum(out * value[:, None], axis=0)
    bias = tl.where(real, tl.sum(products, axis=0), float("-inf"))
    if mask_ptr is not None:
        bias = tl.where(tl.load(mask_ptr + batch * TOKENS + row) != 0, bias, float("-inf"))
    gamma = tl.load(gamma_ptr + columns, mask=columns < WIDTH, other=0.0).to(tl.float32)
    slot = batch * RANK + unit
    tl.store(down_ptr + slot * WIDTH + columns, down.to(down_ptr.dtype.element_ty), mask=columns < WIDTH)
    tl.store(down_bias_ptr + slot, bias)
    up_base = up_ptr + batch * WIDTH * RANK + unit
    tl.store(up_base + columns * RANK, (up * gamma).to(up_ptr.dtype.element_ty), mask=columns < WIDTH)
    if (unit == 0) & (batch == 0):
        out_bias = tl.load(out_bias_ptr + columns, mask=columns < WIDTH, other=0.0).to(tl.float32)
        tl.store(up_bias_ptr + columns, gamma * out_bias, mask=columns < WIDTH)
