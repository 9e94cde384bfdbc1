"""Flash-style attention for many keys: a running softmax over key tiles, no score ever written.

Queries, keys and values are (batch, tokens, HEADS x HEAD), packed; the head size need not be a power of two.
"""

# pyright: reportArgumentType=false, reportOperatorIssue=false, reportIndexIssue=false, reportOptionalOperand=false

import triton
import triton.language as tl


@triton.jit
def tile_of(base, tokens, within, count, inner, HEAD: tl.constexpr):
    """Return rows `tokens` of one head [tokens, within]; zero past `count` and past HEAD."""
    mask = (tokens < count)[:, None] & (within < HEAD)[None, :]
    return tl.load(base + tokens[:, None].to(tl.int64) * inner + within[None, :], mask=mask, other=0.0)


@triton.jit
def allowed_keys(mask_ptr, batch, keys, key_count):
    """Return which keys exist and are not masked."""
    allowed = keys < key_count
    if mask_ptr is not None:
        allowed = allowed & (tl.load(mask_ptr + batch * key_count + keys, mask=allowed, other=0) != 0)
    return allowed


@triton.jit
def attend_forward(
    query_ptr,
    key_ptr,
    value_ptr,
    mask_ptr,
    query_count,
    key_count,
    y_ptr,
    logsum_ptr,
    HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    SCALE: tl.constexpr,
    COMPUTE: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    BLOCK_HEAD: tl.constexpr,
):
    """Write softmax(q k^T SCALE) v and, where a backward will come, the log of each row's sum (batch, HEADS, queries).

    Grid: (query tiles, HEADS, batch).
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    head = tl.program_id(1)
    batch = tl.program_id(2).to(tl.int64)
    inner = HEADS * HEAD
    within = tl.arange(0, BLOCK_HEAD)
    query = tile_of(query_ptr + batch * query_count * inner + head * HEAD, rows, within, query_count, inner, HEAD)
    key_base = key_ptr + batch * key_count * inner + head * HEAD
    value_base = value_ptr + batch * key_count * inner + head * HEAD
    top = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    y = tl.zeros((ROWS, BLOCK_HEAD), tl.float32)
    for start in range(0, key_count, KEYS):
        keys = start + tl.arange(0, KEYS)
        key = tile_of(key_base, keys, within, key_count, inner, HEAD)
        score = tl.dot(query, tl.trans(key), input_precision=PRECISION) * SCALE
        score = tl.where(allowed_keys(mask_ptr, batch, keys, key_count)[None, :], score, float("-inf"))
        higher = tl.maximum(top, tl.max(score, axis=1))
        origin = tl.where(higher == float("-inf"), 0.0, higher)
        p = tl.exp(score - origin[:, None])
        shrink = tl.exp(top - origin)
        total = total * shrink + tl.sum(p, axis=1)
        value = tile_of(value_base, keys, within, key_count, inner, HEAD)
        y = tl.dot(p.to(COMPUTE), value, y * shrink[:, None], input_precision=PRECISION)
        top = higher
    total = tl.where(total == 0.0, 1.0, total)
    y = (y / total[:, None]).to(y_ptr.dtype.element_ty)
    row_mask = rows < query_count
    y_base = y_ptr + batch * query_count * inner + head * HEAD
    tl.store(
        y_base + rows[:, None].to(tl.int64) * inner + within[None, :],
        y,
        mask=row_mask[:, None] & (within < HEAD)[None, :],
    )
    if logsum_ptr is not None:
        top = tl.where(top == float("-inf"), 0.0, top)
        tl.store(logsum_ptr + (batch * HEADS + head) * query_count + rows, top + tl.log(total), mask=row_mask)


@triton.jit
def attend_backward_queries(
    query_ptr,
    key_ptr,
    value_ptr,
    mask_ptr,
    y_ptr,
    gradient_ptr,
    logsum_ptr,
    query_count,
    key_count,
    dquery_ptr,
    HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    SCALE: tl.constexpr,
    COMPUTE: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    BLOCK_HEAD: tl.constexpr,
):
    """Write the queries' gradient: a loop over key tiles. Grid: (query tiles, HEADS, batch)."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    head = tl.program_id(1)
    batch = tl.program_id(2).to(tl.int64)
    inner = HEADS * HEAD
    within = tl.arange(0, BLOCK_HEAD)
    queries_base = batch * query_count * inner + head * HEAD
    keys_base = batch * key_count * inner + head * HEAD
    query = tile_of(query_ptr + queries_base, rows, within, query_count, inner, HEAD)
    gradient = tile_of(gradient_ptr + queries_base, rows, within, query_count, inner, HEAD)
    y = tile_of(y_ptr + queries_base, rows, within, query_count, inner, HEAD)
    delta = tl.sum(gradient.to(tl.float32) * y.to(tl.float32), axis=1)
    row_mask = rows < query_count
    logsum = tl.load(logsum_ptr + (batch * HEADS + head) * query_count + rows, mask=row_mask, other=0.0)
    dquery = tl.zeros((ROWS, BLOCK_HEAD), tl.float32)
    for start in range(0, key_count, KEYS):
        keys = start + tl.arange(0, KEYS)
        key = tile_of(key_ptr + keys_base, keys, within, key_count, inner, HEAD)
        value = tile_of(value_ptr + keys_base, keys, within, key_count, inner, HEAD)
        score = tl.dot(query, tl.trans(key), input_precision=PRECISION) * SCALE
        allowed = allowed_keys(mask_ptr, batch, keys, key_count)
        p = tl.where(allowed[None, :], tl.exp(score - logsum[:, None]), 0.0)
        dp = tl.dot(gradient, tl.trans(value), input_precision=PRECISION)
        ds = p * (dp - delta[:, None]) * SCALE
        dquery = tl.dot(ds.to(COMPUTE), key, dquery, input_precision=PRECISION)
    tl.store(
        dquery_ptr + queries_base + rows[:, None].to(tl.int64) * inner + within[None, :],
        dquery.to(dquery_ptr.dtype.element_ty),
        mask=row_mask[:, None] & (within < HEAD)[None, :],
    )


@triton.jit
def attend_backward_keys(
    query_ptr,
    key_ptr,
    value_ptr,
    mask_ptr,
    y_ptr,
    gradient_ptr,
    logsum_ptr,
    query_count,
    key_count,
    dkey_ptr,
    dvalue_ptr,
    HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    SCALE: tl.constexpr,
    COMPUTE: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    BLOCK_HEAD: tl.constexpr,
):
    """Write the gradients of keys and values: a loop over query tiles, in order. Grid: (key tiles, HEADS, batch)."""
    keys = tl.program_id(0) * KEYS + tl.arange(0, KEYS)
    head = tl.program_id(1)
    batch = tl.program_id(2).to(tl.int64)
    inner = HEADS * HEAD
    within = tl.arange(0, BLOCK_HEAD)
    queries_base = batch * query_count * inner + head * HEAD
    keys_base = batch * key_count * inner + head * HEAD
    key = tile_of(key_ptr + keys_base, keys, within, key_count, inner, HEAD)
    value = tile_of(value_ptr + keys_base, keys, within, key_count, inner, HEAD)
    allowed = allowed_keys(mask_ptr, batch, keys, key_count)
    dkey = tl.zeros((KEYS, BLOCK_HEAD), tl.float32)
    dvalue = tl.zeros((KEYS, BLOCK_HEAD), tl.float32)
    for start in range(0, query_count, ROWS):
        rows = start + tl.arange(0, ROWS)
        row_mask = rows < query_count
        query = tile_of(query_ptr + queries_base, rows, within, query_count, inner, HEAD)
        gradient = tile_of(gradient_ptr + queries_base, rows, within, query_count, inner, HEAD)
        y = tile_of(y_ptr + queries_base, rows, within, query_count, inner, HEAD)
        delta = tl.sum(gradient.to(tl.float32) * y.to(tl.float32), axis=1)
        logsum = tl.load(logsum_ptr + (batch * HEADS + head) * query_count + rows, mask=row_mask, other=0.0)
        score = tl.dot(key, tl.trans(query), input_precision=PRECISION) * SCALE  # [KEYS, ROWS]
        p = tl.where(allowed[:, None] & row_mask[None, :], tl.exp(score - logsum[None, :]), 0.0)
        dvalue = tl.dot(p.to(COMPUTE), gradient, dvalue, input_precision=PRECISION)
        dp = tl.dot(value, tl.trans(gradient), input_precision=PRECISION)
        ds = p * (dp - delta[None, :]) * SCALE
        dkey = tl.dot(ds.to(COMPUTE), query, dkey, input_precision=PRECISION)
    address = keys_base + keys[:, None].to(tl.int64) * inner + within[None, :]
    mask = (keys < key_count)[:, None] & (within < HEAD)[None, :]
    tl.store(dkey_ptr + address, dkey.to(dkey_ptr.dtype.element_ty), mask=mask)
    tl.store(dvalue_ptr + address, dvalue.to(dvalue_ptr.dtype.element_ty), mask=mask)
