"""The fused operators at shapes that hypothesis draws: tokens, widths, ranks and heads that no tile divides."""

import pytest

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlseg.kernels import ops

relaxed = settings(
    deadline=None, derandomize=True, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@relaxed
@given(
    tokens=st.integers(1, 40),
    width=st.integers(1, 70),
    rank=st.integers(1, 40),
    norm=st.booleans(),
    scale=st.booleans(),
    residual=st.booleans(),
)
def test_bottleneck(judge, draw, tokens, width, rank, norm, scale, residual):
    arguments = (
        draw(tokens, width),
        draw(rank, width, spread=width**-0.5),
        draw(rank),
        draw(width, rank, spread=rank**-0.5),
        draw(width),
    )
    options = {
        "norm": ops.Norm(draw(width), draw(width)) if norm and width > 2 else None,
        "scale": draw(width) if scale else None,
        "residual": draw(tokens, width) if residual else None,
    }
    judge(ops.bottleneck, arguments, options)


def streams(draw, tokens, text, heads, head, width):
    inner = heads * head
    pair = (inner, width), (inner,)
    shapes = (*pair, *pair, *pair, (width, inner), (width,))
    attention = ops.Attention(*(draw(*shape, spread=shape[-1] ** -0.5) for shape in shapes))
    norms = [ops.Norm(draw(width, spread=0.7), draw(width, spread=0.3)) for _ in range(2)]
    return draw(1, tokens, width), draw(1, text, width), attention, norms


shapes = given(
    tokens=st.integers(1, 40),
    text=st.integers(1, 6),
    heads=st.integers(1, 3),
    head=st.integers(1, 9),
    width=st.integers(3, 40),
)


@relaxed
@shapes
def test_gated_cross_attention(judge, draw, tokens, text, heads, head, width):
    vision, words, attention, norms = streams(draw, tokens, text, heads, head, width)
    judge(ops.gated_cross_attention, (vision, words, attention, *norms, draw(width)), {"heads": heads, "mask": None})


@relaxed
@shapes
def test_text_pooling(judge, draw, tokens, text, heads, head, width):
    vision, words, attention, norms = streams(draw, tokens, text, heads, head, width)
    judge(ops.text_pooling, (words, vision, attention, *norms), {"heads": heads})
