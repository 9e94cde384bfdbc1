"""What the fused operators keep and write: inputs alone for the backward, no key or value of the image."""

import pytest
import torch

from vlseg.kernels import ops

TOKENS, WIDTH, INNER = 64, 24, 12


def attention(draw):
    pair = (INNER, WIDTH), (INNER,)
    weights = ops.Attention(*(draw(*shape, spread=0.3) for shape in (*pair, *pair, *pair, (WIDTH, INNER), (WIDTH,))))
    return weights, [ops.Norm(draw(WIDTH), draw(WIDTH)) for _ in range(2)]


def calls(draw):
    """Yield each operator's name, a call of it, and the tensors that it is given."""
    adapter = draw(TOKENS, WIDTH), draw(4, WIDTH), draw(4), draw(WIDTH, 4), draw(WIDTH)
    yield "bottleneck", lambda: ops.bottleneck(*adapter, impl="fused"), adapter
    weights, norms = attention(draw)
    vision = draw(1, TOKENS, WIDTH)
    for text_tokens in (1, 3, 20):
        text, gamma = draw(1, text_tokens, WIDTH), draw(WIDTH)
        cross, pool = (vision, text, weights, *norms, gamma), (text, vision, weights, *norms)
        inputs = (vision, text, *weights, *norms[0][:2], *norms[1][:2], gamma)
        yield "cross-attention", lambda a=cross: ops.gated_cross_attention(*a, impl="fused"), inputs
        yield "pooling", lambda a=pool: ops.text_pooling(*a, impl="fused"), inputs


def test_the_backward_keeps_nothing_but_the_inputs(draw):
    for name, call, inputs in calls(draw):
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t) or t, lambda t: t):
            call()
        assert kept and {t.data_ptr() for t in kept} <= {t.data_ptr() for t in inputs}, name


def test_the_absorbed_pooling_writes_no_key_and_no_value(draw, count_launches):
    weights, norms = attention(draw)
    text, vision = draw(1, 1, WIDTH), draw(1, TOKENS, WIDTH)
    with torch.no_grad(), count_launches() as launches:
        ops.text_pooling(text, vision, weights, *norms, impl="fused")
    assert launches.kernels == ["pooling_query", "pool_forward", "pooling_finish"] and launches.other == []
    assert 0 < launches.largest < TOKENS * INNER


def test_the_plain_pooling_does(draw, count_launches):
    weights, norms = attention(draw)
    text, vision = draw(1, 9, WIDTH), draw(1, TOKENS, WIDTH)
    with torch.no_grad(), count_launches() as launches:
        ops.text_pooling(text, vision, weights, *norms, impl="fused")
    assert launches.kernels == ["attend_forward"] and launches.other
    assert launches.largest >= TOKENS * INNER


@pytest.mark.parametrize(
    ("text_tokens", "kernels"), [(1, ["closed_forward"]), (3, ["text_adapter", "bottleneck_forward"])]
)
def test_launches_of_the_gated_cross_attention(draw, count_launches, text_tokens, kernels):
    weights, norms = attention(draw)
    text, vision, gamma = draw(1, text_tokens, WIDTH), draw(1, TOKENS, WIDTH), draw(WIDTH)
    with torch.no_grad(), count_launches() as launches:
        ops.gated_cross_attention(vision, text, weights, *norms, gamma, impl="fused")
    assert launches.kernels == kernels and launches.other == []
