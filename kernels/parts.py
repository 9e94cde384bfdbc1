"""Device functions that several kernels share: activations, their slopes, row statistics, grouped softmax."""

# pyright: reportArgumentType=false, reportOperatorIssue=false, reportIndexIssue=false

import triton
import triton.language as tl


@triton.jit
def activate(z, NAME: tl.constexpr):
    """Return the activation of fp32 values."""
    if NAME == "relu":
        z = tl.maximum(z, 0.0)
    elif NAME == "gelu":
        z = 0.5 * z * (1.0 + tl.erf(z * 0.7071067811865476))
    elif NAME == "quick-gelu":
        z = z * tl.sigmoid(1.702 * z)
    return z


@triton.jit
def slope(z, NAME: tl.constexpr):
    """Return the activation's derivative at fp32 values; relu's at zero is zero, as in PyTorch."""
    if NAME == "relu":
        d = tl.where(z > 0.0, 1.0, 0.0)
    elif NAME == "gelu":
        density = 0.3989422804014327 * tl.exp(-0.5 * z * z)
        d = 0.5 * (1.0 + tl.erf(z * 0.7071067811865476)) + z * density
    elif NAME == "quick-gelu":
        s = tl.sigmoid(1.702 * z)
        d = s + 1.702 * z * s * (1.0 - s)
    else:
        d = tl.full(z.shape, 1.0, tl.float32)
    return d


@triton.jit
def grouped_softmax(z, ROWS: tl.constexpr, RANK: tl.constexpr, GROUPS: tl.constexpr):
    """Return the softmax of each of GROUPS equal parts of a row; a part that is all minus infinity gives zeros."""
    z = tl.reshape(z, (ROWS, GROUPS, RANK // GROUPS))
    top = tl.max(z, axis=2)
    top = tl.where(top == float("-inf"), 0.0, top)
    e = tl.exp(z - top[:, :, None])
    total = tl.sum(e, axis=2)
    e = e / tl.where(total == 0.0, 1.0, total)[:, :, None]
    return tl.reshape(e, (ROWS, RANK))


@triton.jit
def grouped_softmax_backward(h, dh, ROWS: tl.constexpr, RANK: tl.constexpr, GROUPS: tl.constexpr):
    """Return the gradient before the grouped softmax, from its output and the output's gradient."""
    h = tl.reshape(h, (ROWS, GROUPS, RANK // GROUPS))
    dh = tl.reshape(dh, (ROWS, GROUPS, RANK // GROUPS))
    dz = h * (dh - tl.sum(h * dh, axis=2)[:, :, None])
    return tl.reshape(dz, (ROWS, RANK))


@triton.jit
def row_statistics(x_base, row_mask, WIDTH: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, EPS: tl.constexpr):
    """Return mean and 1 / sqrt(variance + EPS) of each row [ROWS], by Chan's update, which does not cancel."""
    mean = tl.zeros((ROWS,), tl.float32)
    spread = tl.zeros((ROWS,), tl.float32)
    for start in range(0, WIDTH, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        mask = row_mask[:, None] & (columns < WIDTH)[None, :]
        x = tl.load(x_base[:, None] + columns[None, :], mask=mask, other=0.0).to(tl.float32)
        count = tl.minimum(WIDTH - start, BLOCK).to(tl.float32)
        block_mean = tl.sum(x, axis=1) / count
        centred = tl.where(mask, x - block_mean[:, None], 0.0)
        shift = block_mean - mean
        mean += shift * (count / (start + count))
        spread += tl.sum(centred * centred, axis=1) + shift * shift * (start * count / (start + count))
    return mean, 1.0 / tl.sqrt(spread / WIDTH + EPS)
