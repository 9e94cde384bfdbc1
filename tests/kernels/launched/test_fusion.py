"""The fused gated cross-attention and text pooling, in every form, against their meaning."""

import os

import pytest
import torch

from vlseg.kernels import forms, ops, tiles

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def attention_case(draw, dtype, *, tokens, text_tokens, heads, inner, width=24, batch=2):
    def linear(out, into):
        return draw(out, into, dtype=dtype, spread=into**-0.5), draw(out, dtype=dtype, spread=0.3)

    linears = [*linear(inner, width), *linear(inner, width), *linear(inner, width), *linear(width, inner)]
    norms = [ops.Norm(draw(width, dtype=dtype, spread=0.7), draw(width, dtype=dtype, spread=0.3)) for _ in range(2)]
    streams = draw(batch, tokens, width, dtype=dtype), draw(batch, text_tokens, width, dtype=dtype)
    return *streams, ops.Attention(*linears), norms


def fusion_case(draw, dtype, mask=None, heads=1, **sizes):
    vision, text, attention, norms = attention_case(draw, dtype, heads=heads, **sizes)
    gamma = draw(vision.shape[-1], dtype=dtype)
    return (vision, text, attention, *norms, gamma), {"heads": heads, "mask": mask}


def pooling_case(draw, dtype, heads=1, **sizes):
    vision, text, attention, norms = attention_case(draw, dtype, heads=heads, **sizes)
    return (text, vision, attention, *norms), {"heads": heads}


@pytest.mark.parametrize(
    ("text_tokens", "heads", "inner", "form"),
    [(1, 2, 12, "closed"), (3, 3, 12, "adapter"), (5, 1, 10, "adapter"), (7, 2, 10, "flash"), (20, 1, 8, "flash")],
)
def test_gated_cross_attention(judge, draw, text_tokens, heads, inner, form):
    assert forms.fusion_form(heads, text_tokens, inner) == form
    arguments, options = fusion_case(
        draw, torch.float32, tokens=19, text_tokens=text_tokens, heads=heads, inner=inner, batch=1
    )
    judge(ops.gated_cross_attention, arguments, options)


@pytest.mark.parametrize(("text_tokens", "inner"), [(1, 12), (4, 12), (9, 8)])
def test_gated_cross_attention_with_masked_tokens(judge, draw, device, text_tokens, inner):
    mask = torch.arange(text_tokens, device=device)[None] < torch.tensor([[0], [text_tokens // 2 + 1]], device=device)
    arguments, options = fusion_case(
        draw, torch.float32, mask=mask, tokens=5, text_tokens=text_tokens, heads=1, inner=inner
    )
    judge(ops.gated_cross_attention, arguments, options)


@pytest.mark.parametrize(("text_tokens", "inner"), [(1, 12), (3, 12), (7, 6)])
def test_gated_cross_attention_at_low_precision(judge, draw, dtype, text_tokens, inner):
    arguments, options = fusion_case(draw, dtype, tokens=18, text_tokens=text_tokens, heads=1, inner=inner, batch=1)
    judge(ops.gated_cross_attention, arguments, options)


@pytest.mark.parametrize(
    ("text_tokens", "heads", "inner", "form"),
    [(1, 1, 12, "absorbed"), (2, 2, 12, "absorbed"), (3, 2, 12, "plain"), (1, 5, 15, "absorbed"), (6, 1, 12, "plain")],
)
def test_text_pooling_on_both_sides_of_the_boundary(judge, draw, text_tokens, heads, inner, form):
    assert forms.pooling_form(heads, text_tokens, inner) == form
    arguments, options = pooling_case(
        draw, torch.float32, tokens=37, text_tokens=text_tokens, heads=heads, inner=inner, batch=2
    )
    judge(ops.text_pooling, arguments, options)


@pytest.mark.parametrize("text_tokens", [1, 8])
def test_text_pooling_at_low_precision(judge, draw, dtype, text_tokens):
    arguments, options = pooling_case(draw, dtype, tokens=37, text_tokens=text_tokens, heads=1, inner=12, batch=1)
    judge(ops.text_pooling, arguments, options)


def test_text_pooling_of_a_strided_image(draw, device):
    (text, vision, *rest), options = pooling_case(draw, torch.float32, tokens=9, text_tokens=1, heads=1, inner=12)
    wide = torch.randn(2, 12, 60, device=device)[:, 3:, 7:31]
    assert wide.shape == vision.shape
    fused = ops.text_pooling(text, wide, *rest, **options, impl="fused")
    torch.testing.assert_close(fused, ops.text_pooling(text, wide, *rest, **options), rtol=1e-5, atol=1e-5)


def test_empty_batch(judge, draw):
    arguments, options = fusion_case(draw, torch.float32, tokens=5, text_tokens=2, heads=1, inner=8, batch=0)
    judge(ops.gated_cross_attention, arguments, options)
    arguments, options = pooling_case(draw, torch.float32, tokens=5, text_tokens=2, heads=1, inner=8, batch=0)
    judge(ops.text_pooling, arguments, options)


def leaves_of(arguments):
    """Return every tensor of an operator's arguments."""
    parts = [[part] if isinstance(part, torch.Tensor) else part for part in arguments]
    return [t for part in parts for t in part if isinstance(t, torch.Tensor)]


@pytest.mark.parametrize(
    ("operator", "case", "text_tokens"),
    [
        (ops.gated_cross_attention, fusion_case, 1),
        (ops.gated_cross_attention, fusion_case, 3),
        (ops.gated_cross_attention, fusion_case, 7),
        (ops.text_pooling, pooling_case, 1),
        (ops.text_pooling, pooling_case, 4),
    ],
)
def test_gradients_are_the_same_bits_every_time(draw, operator, case, text_tokens):
    arguments, options = case(draw, torch.float32, tokens=40, text_tokens=text_tokens, heads=1, inner=6, batch=1)
    leaves = leaves_of(arguments)

    def gradients():
        out = operator(*arguments, **options, impl="fused")
        return torch.autograd.grad(out.square().sum(), leaves, materialize_grads=True)

    assert all(torch.equal(a, b) for a, b in zip(gradients(), gradients(), strict=True))


@pytest.mark.parametrize("text_tokens", [1, 3, 9])
def test_gradients_of_strided_streams(draw, device, text_tokens):
    (_vision, _text, *rest), _options = fusion_case(
        draw, torch.float32, tokens=5, text_tokens=text_tokens, heads=1, inner=8
    )
    wide = torch.randn(2, 9, 60, device=device, requires_grad=True)
    more = torch.randn(2, text_tokens + 2, 50, device=device, requires_grad=True)
    vision, text = wide[:, 3:8, 7:31], more[:, 1:-1, 5:29]
    for operator, arguments in (
        (ops.gated_cross_attention, (vision, text, *rest)),
        (ops.text_pooling, (text, vision, *rest[:-1])),
    ):
        found = []
        for impl in ("fused", "reference"):
            out = operator(*arguments, heads=1, impl=impl)
            found.append([out, *torch.autograd.grad(out.square().sum(), (wide, more))])
        for fused, eager in zip(*found, strict=True):
            torch.testing.assert_close(fused, eager, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("heads", "inner", "form"), [pytest.param(1, 80, "adapter", marks=pytest.mark.slow), (2, 12, "flash")]
)
def test_as_many_text_tokens_as_clip_reads(judge, draw, device, heads, inner, form):
    assert forms.fusion_form(heads, 77, inner) == form
    mask = torch.arange(77, device=device)[None] < 50
    arguments, options = fusion_case(
        draw, torch.float32, mask=mask, tokens=5, text_tokens=77, heads=heads, inner=inner, batch=1, width=16
    )
    with tiles.forced(tiles.Tile(rows=16, block=64, warps=4, stages=2)):
        judge(ops.gated_cross_attention, arguments, options)


@pytest.mark.parametrize(
    ("heads", "text_tokens", "inner", "form"),
    [(8, 20, 520, "flash"), pytest.param(2, 3, 1028, "adapter", marks=pytest.mark.slow)],
)
def test_an_inner_size_beyond_the_registers(judge, draw, heads, text_tokens, inner, form):
    assert inner > forms.RANK_LIMIT and forms.fusion_form(heads, text_tokens, inner) == form
    arguments, options = fusion_case(
        draw, torch.float32, tokens=5, text_tokens=text_tokens, heads=heads, inner=inner, batch=1, width=16
    )
    judge(ops.gated_cross_attention, arguments, options)


@pytest.mark.parametrize(("text_tokens", "inner"), [(1, 8), (3, 8), (9, 8)])
def test_no_real_token_leaves_the_output_bias_alone(draw, device, text_tokens, inner):
    mask = torch.zeros(1, text_tokens, dtype=torch.bool, device=device)
    (vision, *rest), options = fusion_case(
        draw, torch.float32, mask=mask, tokens=5, text_tokens=text_tokens, heads=1, inner=inner, batch=1
    )
    out = ops.gated_cross_attention(vision, *rest, **options, impl="fused")
    torch.testing.assert_close(out, vision + rest[-1] * rest[1].out_bias, rtol=1e-5, atol=1e-5)


def mlp(draw, width, rank):
    return ops.Bottleneck(draw(rank, width, spread=0.2), draw(rank), draw(width, rank, spread=0.2), draw(width))


def module_case(draw, text_tokens):
    width = 24
    vision, text, pooling, norms = attention_case(
        draw, torch.float32, tokens=21, text_tokens=text_tokens, heads=1, inner=8, batch=1
    )
    _, _, injection, more = attention_case(draw, torch.float32, tokens=1, text_tokens=1, heads=1, inner=8, batch=1)
    own = [ops.Norm(draw(width), draw(width)) for _ in range(2)]
    weights = ops.Fusion(
        pooling, *norms, mlp(draw, width, 6), own[0], injection, *more, draw(width), mlp(draw, width, 6), own[1]
    )
    return vision, text, weights


@pytest.mark.parametrize("text_tokens", [1, 2])
def test_the_whole_module(draw, text_tokens):
    vision, text, weights = module_case(draw, text_tokens)
    for fused, eager in zip(
        ops.fusion(vision, text, weights, impl="fused"), ops.fusion(vision, text, weights), strict=True
    ):
        torch.testing.assert_close(fused, eager, rtol=1e-4, atol=1e-4)


def test_one_text_token_takes_six_launches(draw, count_launches):
    vision, text, weights = module_case(draw, 1)
    with torch.no_grad(), count_launches() as launches:
        ops.fusion(vision, text, weights, impl="fused")
    assert launches.kernels == [
        "pooling_query",
        "pool_forward",
        "pooling_finish",
        "bottleneck_forward",
        "closed_forward",
        "bottleneck_forward",
    ]
    assert launches.other == []


@pytest.mark.skipif(INTERPRETED, reason="real sizes are for the GPU")
@pytest.mark.parametrize(("text_tokens", "heads"), [(1, 1), (4, 1), (16, 4), (77, 1), (77, 8)])
def test_the_models_shapes(judge, draw, dtype, text_tokens, heads):
    sizes = {"tokens": 4096, "text_tokens": text_tokens, "heads": heads, "inner": 96, "width": 768, "batch": 2}
    judge(ops.gated_cross_attention, *fusion_case(draw, dtype, **sizes))
    judge(ops.text_pooling, *pooling_case(draw, dtype, **sizes))
