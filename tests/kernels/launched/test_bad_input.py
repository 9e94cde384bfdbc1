"""What only a fused call can refuse: one sentence each, with the shapes and the way out."""

import pytest
import torch

from vlseg.kernels import ops


def adapter(draw, width=24, rank=8):
    return draw(5, width), draw(rank, width), draw(rank), draw(width, rank), draw(width)


def streams(draw, width=16, inner=8, tokens=2, batch=1):
    pair = (inner, width), (inner,)
    attention = ops.Attention(*(draw(*shape) for shape in (*pair, *pair, *pair, (width, inner), (width,))))
    norms = [ops.Norm(draw(width), draw(width)) for _ in range(2)]
    return draw(batch, 3, width), draw(batch, tokens, width), attention, *norms


def test_a_last_axis_that_is_not_contiguous(draw):
    x, *weights = adapter(draw)
    turned = draw(24, 5).t()
    sentence = r"x \(5, 24\) has stride 5 on its last axis: expected 1, call contiguous\(\)"
    with pytest.raises(ValueError, match=sentence):
        ops.bottleneck(turned, *weights, impl="fused")
    with pytest.raises(ValueError, match=r"residual \(5, 24\) has stride 5"):
        ops.bottleneck(x, *weights, residual=turned, impl="fused")
    with pytest.raises(ValueError, match=r"hidden \(5, 8\) has stride 5"):
        ops.bottleneck_hidden(x, draw(8, 5).t(), *weights[2:], impl="fused")
    vision, text, *rest = streams(draw)
    with pytest.raises(ValueError, match=r"text \(1, 2, 16\) has stride 2"):
        ops.gated_cross_attention(vision, draw(1, 16, 2).transpose(1, 2), *rest, draw(16), impl="fused")
    with pytest.raises(ValueError, match=r"vision \(1, 3, 16\) has stride 3"):
        ops.text_pooling(text, draw(1, 16, 3).transpose(1, 2), *rest, impl="fused")


def test_a_dtype_that_no_kernel_takes(draw):
    doubles = [t.detach().double() for t in adapter(draw)]
    with pytest.raises(TypeError, match=r"x is torch\.float64: the fused operators take float32, float16 and bfloat16"):
        ops.bottleneck(*doubles, impl="fused")


def test_a_rank_beyond_the_registers(draw):
    sentence = "the rank is 513: the fused bottleneck holds at most 512, say impl='reference'"
    with pytest.raises(ValueError, match=sentence):
        ops.bottleneck(*adapter(draw, rank=513), impl="fused")


def test_a_head_beyond_the_registers(draw):
    vision, text, *rest = streams(draw, inner=5 * 257, tokens=77)
    with pytest.raises(ValueError, match=r"the head size is 257 \(1285 / 5 heads\).*at most 256"):
        ops.gated_cross_attention(vision, text, *rest, draw(16), heads=5, impl="fused")


def test_more_images_than_a_grid_counts(device):
    text, vision = (torch.empty(16, device=device).expand(65536, tokens, 16) for tokens in (2, 3))
    zeros = [torch.zeros(shape, device=device) for shape in ((8, 16), (8,)) * 3]
    attention = ops.Attention(*zeros, torch.zeros(16, 8, device=device), torch.zeros(16, device=device))
    norm = ops.Norm(torch.ones(16, device=device), torch.zeros(16, device=device))
    with pytest.raises(ValueError, match="the batch is 65536: a launch takes at most 65535 images, split it"):
        ops.text_pooling(text, vision, attention, norm, norm, impl="fused")
