"""The traffic model, and the figures that the documentation takes from it."""

from pathlib import Path

import pytest

from vlseg.kernels import cost

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


@pytest.mark.parametrize(("text", "factor"), [(4, 4), (16, 16)])
def test_the_adapter_form_costs_its_rank(text, factor):
    one = cost.gated_cross_attention(1, 4096, text, 768, 96, 1, 2).flops - 8 * text * 768 * 96
    assert one == 4 * 4096 * 768 * factor


def test_the_absorbed_pooling_moves_the_image_once():
    few, many = (cost.text_pooling(1, 4096, text, 768, 96, 1, 2) for text in (1, 77))
    assert few.bytes == (4096 * 768 + 4 * 768 * 96) * 2
    assert many.bytes > few.bytes and many.flops > few.flops
