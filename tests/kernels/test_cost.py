"""The traffic model, and the figures that the documentation takes from it."""

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vlseg.kernels import cost, reference

DOCS = (Path(__file__).parents[2] / "docs" / "kernels.md").read_text()


def test_the_documented_traffic_of_the_bottleneck():
    rows, width, rank = 4096, 768, 64
    weights = 2 * 2 * width * rank
    eager = cost.eager_bottleneck(rows, width, rank, 2).bytes - weights
    fused = cost.bottleneck(rows, width, rank, 2).bytes - weights
    assert f"five PyTorch operators | (7 M W + 4 M R) s | {eager / 1e6:.1f} MB" in DOCS
    assert f"bottleneck, fused | 2 M W s | {fused / 1e6:.1f} MB" in DOCS


def test_operations_are_those_of_the_two_products():
    assert cost.bottleneck(10, 24, 6, 4).flops == 2 * (2 * 10 * 24 * 6)


def shape(text, heads=1, inner=96, tokens=4096):
    return cost.Shape(1, tokens, text, 768, inner, heads, 2)


@pytest.mark.parametrize(("text", "factor"), [(4, 4), (16, 16)])
def test_the_adapter_form_costs_its_rank(text, factor):
    one = cost.gated_cross_attention(shape(text)).flops - 8 * text * 768 * 96
    assert one == 4 * 4096 * 768 * factor


def test_the_absorbed_pooling_moves_the_image_once():
    few, many = (cost.text_pooling(shape(text)) for text in (1, 77))
    assert few.bytes == (4096 * 768 + 4 * 768 * 96) * 2
    assert many.bytes > few.bytes and many.flops > few.flops


@pytest.mark.parametrize("operator", [cost.gated_cross_attention, cost.text_pooling])
@pytest.mark.parametrize(("text", "heads"), [(1, 1), (4, 1), (16, 1), (77, 1), (77, 8)])
def test_a_backward_costs_more_than_its_forward(operator, text, heads):
    forward, both = (operator(shape(text, heads), backward) for backward in (False, True))
    assert both.bytes > 1.4 * forward.bytes and both.flops > 2 * forward.flops


def test_operations_are_what_pytorch_counts():
    tokens, text, heads, width, inner = 50, 20, 4, 768, 32
    asked = shape(text, heads, inner, tokens)
    pair = (inner, width), (inner,)
    weights = reference.Attention(*(torch.randn(s) for s in (*pair, *pair, *pair, (width, inner), (width,))))
    norm = reference.Norm(torch.ones(width), torch.zeros(width))
    vision, words = torch.randn(1, tokens, width), torch.randn(1, text, width)
    few = 2 * (2 * text * width * inner)  # the two linears of the text, which are left out
    with FlopCounterMode(display=False) as counter:
        reference.gated_cross_attention(vision, words, weights, norm, norm, norm.weight, heads=heads)
    assert cost.gated_cross_attention(asked).flops == counter.get_total_flops() - few
    with FlopCounterMode(display=False) as counter:
        reference.text_pooling(words, vision, weights, norm, norm, heads=heads)
    assert cost.text_pooling(asked).flops == counter.get_total_flops() - few
