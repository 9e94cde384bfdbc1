"""Addresses beyond 2^31 elements, which 32 bits do not hold: tensors that large, of which a few pages exist.

In the interpreter memory is a sparse file and only a grid's last programs run; on a GPU all of it is real.
"""

import itertools
import math
import os
from unittest import mock

import numpy as np
import pytest
import torch

from vlseg.kernels import attention, bottleneck, fusion, ops, pooling, reference

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
NEEDED = 24 * 2**30
LARGE = 2**24

pytestmark = pytest.mark.skipif(
    not INTERPRETED and torch.cuda.mem_get_info()[0] < NEEDED, reason="needs 24 GiB of GPU memory"
)


@pytest.fixture
def sparse(tmp_path):
    """Return a function like torch.empty, whose memory is a file with holes until something is written."""
    numbers = itertools.count()

    def empty(*shape, dtype=torch.float32, device=None):
        size = shape[0] if isinstance(shape[0], (tuple, list, torch.Size)) else shape
        length = max(1, math.prod(size)) * dtype.itemsize
        pages = np.memmap(tmp_path / str(next(numbers)), np.uint8, "w+", shape=(length,))
        return torch.from_numpy(pages).view(dtype)[: math.prod(size)].view(size)

    return empty if INTERPRETED else lambda *shape, **options: torch.empty(*shape, **options | {"device": "cuda"})


@pytest.fixture(autouse=True)
def poisoned_scratch(monkeypatch, sparse):
    """Hand out sparse memory for large buffers instead of poison, which would fill it."""
    if not INTERPRETED:
        return
    fresh = torch.empty
    monkeypatch.setattr(
        torch,
        "empty",
        lambda *size, **options: (sparse if math.prod(torch.Size(size[0])) > LARGE else fresh)(*size, **options),
    )
    monkeypatch.setattr(torch, "empty_like", lambda t, dtype=None: torch.empty(t.shape, dtype=dtype or t.dtype))


@pytest.fixture
def last_programs():
    """Run only the first and the last program along each long axis of a grid."""
    if not INTERPRETED:
        yield
        return
    from triton.runtime import interpreter

    def shortened(*bounds):
        return (0, bounds[0] - 1) if len(bounds) == 1 and bounds[0] > 1000 else range(*bounds)

    with mock.patch.object(interpreter, "range", shortened, create=True):
        yield


def far(sparse, shape, strides):
    """Return fp16 numbers that lie so far apart."""
    reach = 1 + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    assert reach > 2**31
    tensor = sparse(reach, dtype=torch.float16).as_strided(shape, strides)
    return tensor.copy_(torch.randn(shape, generator=torch.Generator().manual_seed(0)))


def close(fused, eager):
    torch.testing.assert_close(fused, eager, rtol=2e-2, atol=2e-2)


def adapter(draw, width, rank=8):
    shapes = ((rank, width), (rank,), (width, rank), (width,))
    return [draw(*shape, dtype=torch.float16, spread=0.3) for shape in shapes]


def both(operator, leaves):
    """Return output and gradients of the leaves, fused and eager."""
    found = []
    for impl in ("fused", "reference"):
        out = operator(impl)
        found.append([out, *torch.autograd.grad(out.float().square().mean(), leaves)])
    return zip(*found, strict=True)


@pytest.mark.parametrize(("shape", "strides"), [((4, 5, 24), (2**30, 24, 1)), ((5, 24), (2**29 + 64, 1))])
def test_strides_of_the_bottleneck(sparse, draw, shape, strides):
    x, weights = far(sparse, shape, strides).requires_grad_(), adapter(draw, 24)
    norm = ops.Norm(draw(24, dtype=torch.float16), draw(24, dtype=torch.float16))
    for fused, eager in both(lambda impl: ops.bottleneck(x, *weights, norm=norm, impl=impl), [x, *weights, *norm[:2]]):
        close(fused, eager)


def streams(draw, inner=8):
    pair = (inner, 24), (inner,)
    shapes = (*pair, *pair, *pair, (24, inner), (24,))
    weights = ops.Attention(*(draw(*shape, dtype=torch.float16, spread=0.3) for shape in shapes))
    norms = [ops.Norm(draw(24, dtype=torch.float16), draw(24, dtype=torch.float16)) for _ in range(2)]
    return weights, norms


@pytest.mark.parametrize("text_tokens", [1, 3, 9])
def test_strides_of_both_streams(sparse, draw, text_tokens):
    vision = far(sparse, (4, 3, 24), (2**30, 40, 1)).requires_grad_()
    text = far(sparse, (4, text_tokens, 24), (2**30 - 64, 24, 1)).requires_grad_()
    weights, norms = streams(draw)
    gamma = draw(24, dtype=torch.float16)

    def cross(impl):
        return ops.gated_cross_attention(vision, text, weights, *norms, gamma, impl=impl)

    def pool(impl):
        return ops.text_pooling(text, vision, weights, *norms, impl=impl)

    for operator in (cross, pool):
        for fused, eager in both(operator, [vision, text, weights.value_weight]):
            close(fused, eager)


ROWS, WIDE = 2**22 + 3, 520
IMAGES = (65535, 64, 520)


def test_rows_beyond_32_bits(sparse, draw, last_programs):
    assert ROWS * WIDE > 2**31
    x, gradient = (sparse(ROWS, WIDE, dtype=torch.float16) for _ in range(2))
    for tensor in (x, gradient):
        tensor[-16:] = torch.randn(16, WIDE, generator=torch.Generator().manual_seed(0)).to(tensor)
    weights = adapter(draw, WIDE)
    last = x[-2:].clone().requires_grad_()
    eager = ops.bottleneck(last, *weights)
    with torch.no_grad():
        close(ops.bottleneck(x, *weights, impl="fused")[-2:], eager)
    packed = bottleneck.Weights(*(t.detach() for t in weights), None, None, None)
    kind = bottleneck.Kind("relu", "relu", 1, 0.0, torch.float16)
    dx, _none = bottleneck.backward(gradient, x, None, packed, kind, False)
    (expected,) = torch.autograd.grad(eager, last, gradient[-2:])
    close(dx[-2:], expected)


def wide_streams(draw):
    pair = (8, WIDE), (8,)
    shapes = (*pair, *pair, *pair, (WIDE, 8), (WIDE,))
    weights = ops.Attention(*(draw(*shape, dtype=torch.float16, spread=0.1).detach() for shape in shapes))
    norm = ops.Norm(torch.ones_like(weights.out_bias), torch.zeros_like(weights.out_bias))
    return weights, norm


def images(sparse):
    """Return more images than 32 bits count numbers of; the last one is not empty."""
    assert math.prod(IMAGES) > 2**31
    vision = sparse(IMAGES, dtype=torch.float16)
    vision[-1] = torch.randn(IMAGES[1:], generator=torch.Generator().manual_seed(0)).to(vision)
    return vision


@pytest.mark.parametrize("text_tokens", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_images_beyond_32_bits(sparse, draw, last_programs, text_tokens):
    vision, (weights, norm) = images(sparse), wide_streams(draw)
    text = torch.randn(1, text_tokens, WIDE).to(vision).expand(IMAGES[0], -1, -1)
    p = fusion.Parameters(weights, norm, norm, weights.out_bias, 1, None, torch.float16)
    expected = ops.gated_cross_attention(vision[-1:], text[-1:], weights, norm, norm, weights.out_bias)
    close(fusion.forward(vision, text, p)[-1:], expected)


def test_pooled_images_beyond_32_bits(sparse, draw, last_programs):
    vision, (weights, norm) = images(sparse), wide_streams(draw)
    text = torch.randn(1, 1, WIDE).to(vision).expand(IMAGES[0], -1, -1)
    p = pooling.Parameters(weights, norm, norm, 1, torch.float16)
    close(pooling.forward(text, vision, p)[-1:], ops.text_pooling(text[-1:], vision[-1:], weights, norm, norm))


def test_queries_beyond_32_bits(sparse, last_programs):
    query = images(sparse)
    key, value = (torch.randn(1, 3, WIDE).to(query).expand(IMAGES[0], -1, -1) for _ in range(2))
    if INTERPRETED:
        key, value = (_packed(sparse, t) for t in (key, value))
    attended, _logsum = attention.attend(query, key.contiguous(), value.contiguous(), None, 8)
    close(attended[-1:], reference.attend(query[-1:], key[-1:], value[-1:], 8))


def _packed(sparse, expanded):
    """Return a packed tensor of which only the last image exists."""
    packed = sparse(expanded.shape, dtype=expanded.dtype)
    packed[-1] = expanded[-1]
    return packed
