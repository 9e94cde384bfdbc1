"""Kernels of the text pooling in its absorbed form: queries, one pass over the image, the result; and its backward.

A query sees the image through q~ = w * (Wk^T q) / sqrt(d) alone: its score of a token is (q~ V - mean sum(q~)) / std,
so neither keys nor values nor normalised tokens are ever written.
"""

# pyright: reportArgumentType=false, reportOperatorIssue=false, reportIndexIssue=false, reportOptionalOperand=false, reportCallIssue=false

import triton
import triton.language as tl

from .fusion_kernels import linear_part, normed_row


@triton.jit
def pooling_query(
    text_ptr,
    norm_weight_ptr,
    norm_bias_ptr,
    query_weight_ptr,
    query_bias_ptr,
    key_weight_ptr,
    vision_weight_ptr,
    text_batch,
    text_row,
    query_ptr,
    WIDTH: tl.constexpr,
    TOKENS: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    SCALE: tl.constexpr,
    EPS: tl.constexpr,
    BLOCK_INNER: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
):
    """Write the absorbed query of one head and text token, (batch, HEADS x TOKENS, WIDTH). Grid: (queries, batch)."""
    query_index = tl.program_id(0)
    batch = tl.program_id(1).to(tl.int64)
    head = query_index // TOKENS
    token = (query_index % TOKENS).to(tl.int64)
    columns = tl.arange(0, BLOCK_WIDTH)
    column_mask = columns < WIDTH
    normed = normed_row(
        text_ptr + batch * text_batch + token * text_row, norm_weight_ptr, norm_bias_ptr, columns, WIDTH, EPS
    )
    absorbed = tl.zeros((BLOCK_WIDTH,), tl.float32)
    for start in range(0, HEAD, BLOCK_INNER):
        within = start + tl.arange(0, BLOCK_INNER)
        units = head * HEAD + within
        unit_mask = within < HEAD
        query = linear_part(normed, query_weight_ptr, query_bias_ptr, units, unit_mask, columns, column_mask, WIDTH)
        key = tl.load(
            key_weight_ptr + units[:, None] * WIDTH + columns[None, :],
            mask=unit_mask[:, None] & column_mask[None, :],
            other=0.0,
        ).to(tl.float32)
        absorbed += tl.sum(key * query[:, None], axis=0)
    absorbed *= SCALE * tl.load(vision_weight_ptr + columns, mask=column_mask, other=0.0).to(tl.float32)
    out = query_ptr + (batch * HEADS * TOKENS + query_index) * WIDTH
    tl.store(out + columns, absorbed.to(query_ptr.dtype.element_ty), mask=column_mask)


@triton.jit
def scores_and_statistics(
    vision_base,
    row_mask,
    query_base,
    other_base,
    query_mask,
    queries,
    WIDTH: tl.constexpr,
    QUERIES: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    EPS: tl.constexpr,
    COMPUTE: tl.constexpr,
    PRECISION: tl.constexpr,
    WITH_OTHER: tl.constexpr,
):
    """Return q~ x^ [QUERIES, ROWS], the same for a second set of vectors, both sets' sums, the rows' mean and 1 / std.

    One sweep over the columns: raw products, sums and Chan's running variance; the norm is applied afterwards.
    """
    mean = tl.zeros((ROWS,), tl.float32)
    spread = tl.zeros((ROWS,), tl.float32)
    score = tl.zeros((QUERIES, ROWS), tl.float32)
    query_sum = tl.zeros((QUERIES,), tl.float32)
    other = tl.zeros((QUERIES, ROWS), tl.float32)
    other_sum = tl.zeros((QUERIES,), tl.float32)
    for start in range(0, WIDTH, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        column_mask = columns < WIDTH
        mask = row_mask[:, None] & column_mask[None, :]
        raw = tl.load(vision_base[:, None] + columns[None, :], mask=mask, other=0.0)
        x = raw.to(tl.float32)
        count = tl.minimum(WIDTH - start, BLOCK).to(tl.float32)
        block_mean = tl.sum(x, axis=1) / count
        centred = tl.where(mask, x - block_mean[:, None], 0.0)
        shift = block_mean - mean
        mean += shift * (count / (start + count))
        spread += tl.sum(centred * centred, axis=1) + shift * shift * (start * count / (start + count))
        vector_mask = query_mask[:, None] & column_mask[None, :]
        vector = queries[:, None] * WIDTH + columns[None, :]
        transposed = tl.trans(raw.to(COMPUTE))  # [BLOCK, ROWS]
        query = tl.load(query_base + vector, mask=vector_mask, other=0.0).to(COMPUTE)
        score = tl.dot(query, transposed, score, input_precision=PRECISION)
        query_sum += tl.sum(query.to(tl.float32), axis=1)
        if WITH_OTHER:
            second = tl.load(other_base + vector, mask=vector_mask, other=0.0).to(COMPUTE)
            other = tl.dot(second, transposed, other, input_precision=PRECISION)
            other_sum += tl.sum(second.to(tl.float32), axis=1)
    rstd = 1.0 / tl.sqrt(spread / WIDTH + EPS)
    score = (score - query_sum[:, None] * mean[None, :]) * rstd[None, :]
    other = (other - other_sum[:, None] * mean[None, :]) * rstd[None, :]
    return score, other, query_sum, other_sum, mean, rstd


@triton.jit
def pool_forward(
    vision_ptr,
    query_ptr,
    tokens,
    blocks,
    vision_batch,
    vision_row,
    partial_ptr,
    softmax_ptr,
    WIDTH: tl.constexpr,
    QUERY_COUNT: tl.constexpr,
    EPS: tl.constexpr,
    COMPUTE: tl.constexpr,
    PRECISION: tl.constexpr,
    QUERIES: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write, for one block of rows, sum(p x^) (batch, blocks, QUERY_COUNT, WIDTH) and (top, sum(p)) of its softmax.

    Grid: (row blocks, batch). The image is read from memory once; the second sweep finds the rows in the cache.
    """
    block = tl.program_id(0)
    batch = tl.program_id(1).to(tl.int64)
    rows = block.to(tl.int64) * ROWS + tl.arange(0, ROWS)
    row_mask = rows < tokens
    queries = tl.arange(0, QUERIES)
    query_mask = queries < QUERY_COUNT
    vision_base = vision_ptr + batch * vision_batch + rows * vision_row
    query_base = query_ptr + batch * QUERY_COUNT * WIDTH
    score, _other, _query_sum, _other_sum, mean, rstd = scores_and_statistics(
        vision_base,
        row_mask,
        query_base,
        query_base,
        query_mask,
        queries,
        WIDTH,
        QUERIES,
        ROWS,
        BLOCK,
        EPS,
        COMPUTE,
        PRECISION,
        False,
    )
    score = tl.where(row_mask[None, :], score, float("-inf"))
    top = tl.max(score, axis=1)
    p = tl.exp(score - top[:, None])
    out = (batch * blocks + block) * QUERY_COUNT + queries
    tl.store(softmax_ptr + out * 2, top, mask=query_mask)
    tl.store(softmax_ptr + out * 2 + 1, tl.sum(p, axis=1), mask=query_mask)
    for start in range(0, WIDTH, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        column_mask = columns < WIDTH
        mask = row_mask[:, None] & column_mask[None, :]
        x = tl.load(vision_base[:, None] + columns[None, :], mask=mask, other=0.0).to(tl.float32)
        normed = tl.where(mask, (x - mean[:, None]) * rstd[:, None], 0.0)
        pooled = tl.dot(p.to(COMPUTE), normed.to(COMPUTE), input_precision=PRECISION)  # [QUERIES, BLOCK]
        tl.store(
            partial_ptr + out[:, None] * WIDTH + columns[None, :],
            pooled,
            mask=query_mask[:, None] & column_mask[None, :],
        )


@triton.jit
def pooling_finish(
    text_ptr,
    partial_ptr,
    softmax_ptr,
    vision_weight_ptr,
    vision_bias_ptr,
    value_weight_ptr,
    value_bias_ptr,
    out_weight_ptr,
    out_bias_ptr,
    blocks,
    text_batch,
    text_row,
    y_ptr,
    pooled_ptr,
    logsum_ptr,
    WIDTH: tl.constexpr,
    TOKENS: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    BLOCKS: tl.constexpr,
    STEP: tl.constexpr,
    BLOCK_INNER: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
):
    """Write L + out(value(w * pooled + b)) for one text token; pooled and its log sum too where a backward will come.

    Grid: (TOKENS, batch). BLOCKS is at least the number of row blocks, a power of two.
    """
    token = tl.program_id(0)
    batch = tl.program_id(1).to(tl.int64)
    columns = tl.arange(0, BLOCK_WIDTH)
    column_mask = columns < WIDTH
    vision_weight = tl.load(vision_weight_ptr + columns, mask=column_mask, other=0.0).to(tl.float32)
    vision_bias = tl.load(vision_bias_ptr + columns, mask=column_mask, other=0.0).to(tl.float32)
    every = tl.arange(0, BLOCKS)
    y = tl.load(text_ptr + batch * text_batch + token.to(tl.int64) * text_row + columns, mask=column_mask, other=0.0)
    y = y.to(tl.float32) + tl.load(out_bias_ptr + columns, mask=column_mask, other=0.0).to(tl.float32)
    for head in range(0, HEADS):
        query = head * TOKENS + token
        first = batch * blocks * (HEADS * TOKENS) + query
        tops = tl.load(softmax_ptr + (first + every * (HEADS * TOKENS)) * 2, mask=every < blocks, other=float("-inf"))
        sums = tl.load(softmax_ptr + (first + every * (HEADS * TOKENS)) * 2 + 1, mask=every < blocks, other=0.0)
        top = tl.max(tops, axis=0)
        total = tl.sum(sums * tl.exp(tops - top), axis=0)
        pooled = tl.zeros((BLOCK_WIDTH,), tl.float32)
        for start in range(0, blocks, STEP):
            some = start + tl.arange(0, STEP)
            index = first + some * (HEADS * TOKENS)
            share = tl.exp(tl.load(softmax_ptr + index * 2, mask=some < blocks, other=float("-inf")) - top) / total
            part = tl.load(
                partial_ptr + index[:, None] * WIDTH + columns[None, :],
                mask=(some < blocks)[:, None] & column_mask[None, :],
                other=0.0,
            )  # [STEP, BLOCK_WIDTH]
            pooled += tl.sum(share[:, None] * part, axis=0)
        if pooled_ptr is not None:
            tl.store(pooled_ptr + (batch * (HEADS * TOKENS) + query) * WIDTH + columns, pooled, mask=column_mask)
            tl.store(logsum_ptr + batch * (HEADS * TOKENS) + query, top + tl.log(total))
        kept = pooled * vision_weight + vision_bias
        for start in range(0, HEAD, BLOCK_INNER):
            within = start + tl.arange(0, BLOCK_INNER)
            units = head * HEAD + within
            unit_mask = within < HEAD
            value = linear_part(kept, value_weight_ptr, value_bias_ptr, units, unit_mask, columns, column_mask, WIDTH)
            out = tl.load(
                out_weight_ptr + columns[None, :] * (HEADS * HEAD) + units[:, None],
                mask=unit_mask[:, None] & column_mask[None, :],
                other=0.0,
            ).to(tl.float32)
            y += tl.sum(out * value[:, None], axis=0)
    tl.store(y_ptr + (batch * TOKENS + token) * WIDTH + columns, y.to(y_ptr.dtype.element_ty), mask=column_mask)


@triton.jit
def pool_backward(
    vision_ptr,
    query_ptr,
    gradient_ptr,
    logsum_ptr,
    delta_ptr,
    tokens,
    blocks,
    vision_batch,
    vision_row,
    dvision_ptr,
    partial_ptr,
    WIDTH: tl.constexpr,
    QUERY_COUNT: tl.constexpr,
    EPS: tl.constexpr,
    COMPUTE: tl.constexpr,
    PRECISION: tl.constexpr,
    QUERIES: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the gradient of the image's rows, and of q~ for this block of rows (batch, blocks, QUERY_COUNT, WIDTH).

    Grid: (row blocks, batch). `gradient` (batch, QUERY_COUNT, WIDTH) is that of the pooled vectors, `delta` its inner
    product with them. The layer norm's two row sums follow from the scores: sum(dx^) and sum(dx^ x^) need no sweep.
    """
    block = tl.program_id(0)
    batch = tl.program_id(1).to(tl.int64)
    rows = block.to(tl.int64) * ROWS + tl.arange(0, ROWS)
    row_mask = rows < tokens
    queries = tl.arange(0, QUERIES)
    query_mask = queries < QUERY_COUNT
    vision_base = vision_ptr + batch * vision_batch + rows * vision_row
    query_base = query_ptr + batch * QUERY_COUNT * WIDTH
    gradient_base = gradient_ptr + batch * QUERY_COUNT * WIDTH
    score, dp, query_sum, gradient_sum, mean, rstd = scores_and_statistics(
        vision_base,
        row_mask,
        query_base,
        gradient_base,
        query_mask,
        queries,
        WIDTH,
        QUERIES,
        ROWS,
        BLOCK,
        EPS,
        COMPUTE,
        PRECISION,
        True,
    )
    logsum = tl.load(logsum_ptr + batch * QUERY_COUNT + queries, mask=query_mask, other=0.0)
    delta = tl.load(delta_ptr + batch * QUERY_COUNT + queries, mask=query_mask, other=0.0)
    seen = query_mask[:, None] & row_mask[None, :]
    p = tl.where(seen, tl.exp(score - logsum[:, None]), 0.0)
    ds = p * (dp - delta[:, None])  # [QUERIES, ROWS]
    along_one = tl.sum(p * gradient_sum[:, None] + ds * query_sum[:, None], axis=0) / WIDTH
    along_x = tl.sum(p * dp + ds * score, axis=0) / WIDTH
    out = (batch * blocks + block) * QUERY_COUNT + queries
    for start in range(0, WIDTH, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        column_mask = columns < WIDTH
        mask = row_mask[:, None] & column_mask[None, :]
        vector_mask = query_mask[:, None] & column_mask[None, :]
        vector = queries[:, None] * WIDTH + columns[None, :]
        x = tl.load(vision_base[:, None] + columns[None, :], mask=mask, other=0.0).to(tl.float32)
        normed = tl.where(mask, (x - mean[:, None]) * rstd[:, None], 0.0)
        dquery = tl.dot(ds.to(COMPUTE), normed.to(COMPUTE), input_precision=PRECISION)
        tl.store(partial_ptr + out[:, None] * WIDTH + columns[None, :], dquery, mask=vector_mask)
        query = tl.load(query_base + vector, mask=vector_mask, other=0.0).to(COMPUTE)
        gradient = tl.load(gradient_base + vector, mask=vector_mask, other=0.0).to(COMPUTE)
        dnormed = tl.dot(tl.trans(p.to(COMPUTE)), gradient, input_precision=PRECISION)
        dnormed = tl.dot(tl.trans(ds.to(COMPUTE)), query, dnormed, input_precision=PRECISION)  # [ROWS, BLOCK]
        dx = rstd[:, None] * (dnormed - along_one[:, None] - normed * along_x[:, None])
        out_base = dvision_ptr + (batch * tokens + rows)[:, None] * WIDTH
        tl.store(out_base + columns[None, :], dx.to(dvision_ptr.dtype.element_ty), mask=mask)
