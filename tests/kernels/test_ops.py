"""The public operators: bad input in one sentence, the choice of the implementation, no triton for the reference."""

import subprocess
import sys

import pytest
import torch

from vlseg.kernels import ops, reference


def adapter(width=8, rank=3, rows=5):
    return torch.randn(rows, width), *(torch.randn(s) for s in ((rank, width), (rank,), (width, rank), (width,)))


def streams(width=8, inner=4, tokens=3):
    pair = (inner, width), (inner,)
    attention = ops.Attention(*(torch.randn(s) for s in (*pair, *pair, *pair, (width, inner), (width,))))
    norms = [ops.Norm(torch.ones(width), torch.zeros(width)) for _ in range(2)]
    return torch.randn(2, 6, width), torch.randn(2, tokens, width), attention, *norms, torch.randn(width)


def test_reference_is_the_default():
    arguments = adapter()
    torch.testing.assert_close(ops.bottleneck(*arguments), reference.bottleneck(*arguments), rtol=0, atol=0)


def test_preferred_implementation():
    assert ops.preferred("cuda:1") == "fused"
    assert ops.preferred(torch.device("cpu")) == "reference"
    with ops.preferring("fused"), ops.preferring("reference"):
        assert ops.preferred("cuda:1") == "reference"
    with pytest.raises(ValueError, match="impl is 'eager'"), ops.preferring("eager"):
        pass
    assert ops.preferred("cuda:1") == "fused"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": torch.randn(5, 9)}, r"up_weight is \(8, 3\) but x has width 9: expected \(9, rank\)"),
        ({"down_weight": torch.randn(4, 8)}, r"down_weight is \(4, 8\).*expected \(3, 8\)"),
        ({"down_bias": torch.randn(1)}, r"down_bias is \(1,\).*expected \(3,\)"),
        ({"up_bias": torch.randn(3)}, r"up_bias is \(3,\).*expected \(8,\)"),
        ({"scale": torch.randn(3)}, r"scale is \(3,\) but x has width 8"),
        ({"residual": torch.randn(4, 8)}, r"residual is \(4, 8\).*expected \(5, 8\)"),
        ({"norm": ops.Norm(torch.ones(7), torch.ones(8))}, r"norm.weight is \(7,\).*expected \(8,\)"),
        ({"inner": "swish"}, "inner is 'swish': expected one of identity, relu, gelu, quick-gelu"),
        ({"impl": "cuda"}, "impl is 'cuda'"),
        ({"up_bias": torch.randn(8, device="meta")}, "up_bias is on meta but x on cpu"),
        ({"x": torch.tensor(1.0)}, "x has no axis"),
    ],
)
def test_bad_values(change, words):
    names = ("x", "down_weight", "down_bias", "up_weight", "up_bias")
    with pytest.raises(ValueError, match=words):
        ops.bottleneck(**dict(zip(names, adapter(), strict=True)) | change)


def test_mixed_dtypes():
    x, *weights = adapter()
    with pytest.raises(TypeError, match=r"down_weight is torch.float32 but x is torch.float16"):
        ops.bottleneck(x.half(), *weights)
    with pytest.raises(TypeError, match=r"x is torch\.int64"):
        ops.bottleneck(x.long(), *weights)


def test_hidden_of_another_shape():
    x, _, _, up, up_bias = adapter()
    with pytest.raises(ValueError, match=r"hidden is \(5, 2\).*expected \(5, 3\)"):
        ops.bottleneck_hidden(x, torch.randn(5, 2), up, up_bias)


def test_bad_fusion_input():
    vision, text, attention, first, second, gamma = streams()
    call = ops.gated_cross_attention
    with pytest.raises(ValueError, match=r"gamma is \(3,\).*expected \(8,\)"):
        call(vision, text, attention, first, second, gamma[:3])
    with pytest.raises(ValueError, match="heads is 3 but the inner size is 4"):
        call(vision, text, attention, first, second, gamma, heads=3)
    with pytest.raises(ValueError, match=r"text is \(1, 3, 8\)"):
        call(vision, text[:1], attention, first, second, gamma)
    with pytest.raises(ValueError, match="at least one token"):
        call(vision, text[:, :0], attention, first, second, gamma)
    with pytest.raises(ValueError, match=r"mask is \(2, 2\).*expected \(2, 3\)"):
        call(vision, text, attention, first, second, gamma, mask=torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"mask is torch\.float32: expected bool"):
        call(vision, text, attention, first, second, gamma, mask=torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"key_weight is \(4, 9\)"):
        call(vision, text, attention._replace(key_weight=torch.randn(4, 9)), first, second, gamma)
    with pytest.raises(ValueError, match="at least one token to pool"):
        ops.text_pooling(text, vision[:, :0], attention, first, second)


def test_pooling_takes_either_form():
    for tokens in (1, 5):
        vision, text, attention, first, second, _gamma = streams(tokens=tokens)
        out = ops.text_pooling(text, vision, attention, first, second)
        plain = reference.text_pooling(text, vision, attention, first, second)
        torch.testing.assert_close(out, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
def test_fused_needs_a_gpu_or_the_interpreter():
    pytest.importorskip("triton")
    with pytest.raises(ValueError, match="x is on cpu but impl is 'fused': move it to a CUDA device, or say impl="):
        ops.bottleneck(*adapter(), impl="fused")
    vision, text, attention, first, second, gamma = streams()
    with pytest.raises(ValueError, match="vision is on cpu"):
        ops.gated_cross_attention(vision, text, attention, first, second, gamma, impl="fused")
    with pytest.raises(ValueError, match="vision is on cpu"):
        ops.text_pooling(text, vision, attention, first, second, impl="fused")


def test_reference_needs_no_triton():
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "import torch\nfrom vlseg.kernels import ops\n"
        "ops.bottleneck(torch.randn(2, 4), torch.randn(1, 4), torch.randn(1), torch.randn(4, 1), torch.randn(4))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("heads", "tokens"), [(1, 1), (2, 1), (1, 3), (2, 3), (4, 5)])
@pytest.mark.parametrize("masked", [False, True])
def test_cross_attention_takes_every_form_and_each_is_exact(heads, tokens, masked):
    vision, text, attention, _, _, gamma = streams(width=16, tokens=tokens, inner=8)
    attention = ops.Attention(*(one.double().requires_grad_() for one in attention))
    norms = [ops.Norm(torch.randn(16).double(), torch.randn(16).double()) for _ in range(2)]
    vision, text, gamma = (one.double().requires_grad_() for one in (vision, text, gamma))
    mask = torch.arange(tokens) < torch.tensor([[tokens], [tokens // 2]]) if masked else None
    arguments, leaves = (vision, text, attention, *norms, gamma), (vision, text, gamma, *attention)
    out = ops.gated_cross_attention(*arguments, heads=heads, mask=mask)
    naive = reference.gated_cross_attention(*arguments, heads=heads, mask=mask)
    torch.testing.assert_close(out, naive, rtol=0, atol=1e-12)
    sums = [(one * torch.arange(one.numel()).reshape(one.shape)).sum() for one in (out, naive)]
    ours, theirs = (torch.autograd.grad(one, leaves, allow_unused=True) for one in sums)
    for mine, its in zip(ours, theirs, strict=True):
        # what cancels gets no gradient here, and a zero there
        torch.testing.assert_close(torch.zeros_like(its) if mine is None else mine, its, rtol=1e-10, atol=1e-9)
