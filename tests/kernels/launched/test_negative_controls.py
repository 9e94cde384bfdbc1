"""The tests can fail: a grid rounded down, a dropped mask and a missing bias are all caught."""

import pytest
import torch

from vlseg.kernels import bottleneck, fusion, ops


def adapter(draw):
    return (draw(21, 24), draw(8, 24, spread=0.2), draw(8), draw(24, 8, spread=0.3), draw(24))


def test_a_grid_rounded_down_is_caught(judge, draw, monkeypatch):
    judge(ops.bottleneck, adapter(draw), {})
    monkeypatch.setattr(bottleneck.triton, "cdiv", lambda a, b: max(1, a // b))
    with pytest.raises(AssertionError, match="never written"):
        judge(ops.bottleneck, adapter(draw), {})


@pytest.mark.parametrize("text_tokens", [1, 17])
def test_a_grid_rounded_down_is_caught_in_the_fusion(judge, draw, monkeypatch, text_tokens):
    pair = (8, 16), (8,)
    attention = ops.Attention(*(draw(*shape, spread=0.3) for shape in (*pair, *pair, *pair, (16, 8), (16,))))
    norms = [ops.Norm(draw(16), draw(16)) for _ in range(2)]
    vision, text = draw(1, 21, 16), draw(1, text_tokens, 16)
    calls = [
        (ops.gated_cross_attention, (vision, text, attention, *norms, draw(16)), {"heads": 1, "mask": None}),
        (ops.text_pooling, (text, vision, attention, *norms), {"heads": 1}),
    ]
    for call in calls:
        judge(*call)
    monkeypatch.setattr(bottleneck.triton, "cdiv", lambda a, b: max(1, a // b))
    for call in calls:
        with pytest.raises(AssertionError, match=r"never written|fused errs"):
            judge(*call)


@pytest.mark.parametrize("name", ["down_bias", "up_bias"])
def test_a_missing_bias_is_caught(judge, draw, monkeypatch, name):
    launch = bottleneck.forward

    def without(x, hidden, residual, weights, kind):
        return launch(x, hidden, residual, weights._replace(**{name: torch.zeros_like(getattr(weights, name))}), kind)

    monkeypatch.setattr(bottleneck, "forward", without)
    with pytest.raises(AssertionError, match="fused errs"):
        judge(ops.bottleneck, adapter(draw), {})


@pytest.mark.parametrize(("text_tokens", "inner"), [(3, 8), (9, 8)])
def test_a_dropped_mask_is_caught(judge, draw, device, monkeypatch, text_tokens, inner):
    pair = (inner, 16), (inner,)
    attention = ops.Attention(*(draw(*shape, spread=0.3) for shape in (*pair, *pair, *pair, (16, inner), (16,))))
    norms = [ops.Norm(draw(16), draw(16)) for _ in range(2)]
    mask = torch.arange(text_tokens, device=device)[None] < 2
    arguments = (draw(1, 5, 16), draw(1, text_tokens, 16), attention, *norms, draw(16))
    monkeypatch.setattr(fusion, "contiguous", lambda parameters: parameters._replace(mask=None))
    with pytest.raises(AssertionError, match="fused errs"):
        judge(ops.gated_cross_attention, arguments, {"heads": 1, "mask": mask})
