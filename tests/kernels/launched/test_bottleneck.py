"""The fused bottleneck against its meaning: output and every gradient."""

import os

import pytest
import torch

from vlseg.kernels import ops, tiles

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
ACTIVATIONS = [("identity", "gelu"), ("relu", "relu"), ("gelu", "quick-gelu"), ("quick-gelu", "identity")]


def bottleneck_case(draw, shape, rank, dtype, *, norm=False, scale=False, residual=False):
    width = shape[-1]
    arguments = (
        draw(*shape, dtype=dtype),
        draw(rank, width, dtype=dtype, spread=width**-0.5),
        draw(rank, dtype=dtype),
        draw(width, rank, dtype=dtype, spread=rank**-0.5),
        draw(width, dtype=dtype),
    )
    options = {
        "norm": ops.Norm(draw(width, dtype=dtype), draw(width, dtype=dtype)) if norm else None,
        "scale": draw(width, dtype=dtype) if scale else None,
        "residual": draw(*shape, dtype=dtype) if residual else None,
    }
    return arguments, options


@pytest.mark.parametrize(("inner", "outer"), ACTIVATIONS)
def test_every_activation_inside_and_outside(judge, draw, inner, outer):
    everything = {"norm": inner == "relu", "scale": outer == "gelu", "residual": outer == "relu"}
    arguments, options = bottleneck_case(draw, (19, 24), 12, torch.float32, **everything)
    judge(ops.bottleneck, arguments, {**options, "inner": inner, "outer": outer})


@pytest.mark.parametrize(("inner", "outer", "norm"), [("relu", "relu", False), ("relu", "identity", True)])
def test_dtypes(judge, draw, dtype, inner, outer, norm):
    arguments, options = bottleneck_case(draw, (2, 21, 40), 24, dtype, norm=norm, scale=True, residual=True)
    judge(ops.bottleneck, arguments, {**options, "inner": inner, "outer": outer})


def test_one_number_as_scale(judge, draw):
    arguments, options = bottleneck_case(draw, (5, 24), 8, torch.float32)
    judge(ops.bottleneck, arguments, {**options, "scale": draw(1), "inner": "identity", "outer": "identity"})


def test_a_large_mean_does_not_cancel_in_the_norm(judge, draw):
    arguments, options = bottleneck_case(draw, (20, 48), 8, torch.float32, norm=True)
    far = (arguments[0].detach() + 1000).requires_grad_()
    judge(ops.bottleneck, (far, *arguments[1:]), options)


def test_strided_rows_are_read_in_place(draw, device):
    arguments, options = bottleneck_case(draw, (2, 9, 24), 8, torch.float32)
    wide = torch.randn(2, 11, 60, device=device)
    for x in (wide[:, :, 5:29], wide[:, 2:, 30:54], wide.transpose(0, 1)[..., :24], wide[0, 0, :24]):
        fused = ops.bottleneck(x, *arguments[1:], **options, impl="fused")
        torch.testing.assert_close(fused, ops.bottleneck(x, *arguments[1:], **options), rtol=1e-5, atol=1e-5)


def test_gradients_of_strided_rows(draw, device):
    arguments, options = bottleneck_case(draw, (2, 9, 24), 8, torch.float32, norm=True)
    wide = torch.randn(2, 11, 60, device=device, requires_grad=True)
    found = []
    for impl in ("fused", "reference"):
        out = ops.bottleneck(wide[:, 2:, 30:54], *arguments[1:], **options, impl=impl)
        found.append(torch.autograd.grad(out.square().sum(), (wide, *arguments[1:])))
    for fused, eager in zip(*found, strict=True):
        torch.testing.assert_close(fused, eager, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rank", [48, pytest.param(192, marks=pytest.mark.slow)])
def test_sizes_that_no_tile_divides(judge, draw, rank):
    with tiles.forced(tiles.Tile(rows=128, block=128, warps=4, stages=2)):
        judge(ops.bottleneck, *bottleneck_case(draw, (485, 240), rank, torch.float32, norm=True))


def test_the_default_tiles(judge, draw):
    default = tiles.forward_tile(torch.float32, 64, 77)
    with tiles.forced(default):
        judge(ops.bottleneck, *bottleneck_case(draw, (77, 70), 40, torch.float32))


def test_an_expanded_gradient(judge, draw):
    arguments, options = bottleneck_case(draw, (7, 24), 8, torch.float32)
    (fused,) = torch.autograd.grad(ops.bottleneck(*arguments, **options, impl="fused").sum(), arguments[1])
    (eager,) = torch.autograd.grad(ops.bottleneck(*arguments, **options).sum(), arguments[1])
    torch.testing.assert_close(fused, eager, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(0, 24), (3, 0, 24)])
def test_empty_batch(judge, draw, shape):
    arguments, options = bottleneck_case(draw, shape, 8, torch.float32, norm=True, residual=True)
    judge(ops.bottleneck, arguments, options)


@pytest.mark.parametrize(("inner", "outer"), [("relu", "relu"), ("gelu", "identity")])
def test_folded_hidden(judge, draw, dtype, inner, outer):
    x, hidden = draw(2, 19, 40, dtype=dtype), draw(2, 19, 12, dtype=dtype)
    up, up_bias = draw(40, 12, dtype=dtype, spread=0.3), draw(40, dtype=dtype)
    options = {"inner": inner, "outer": outer, "residual": draw(2, 19, 40, dtype=dtype), "scale": draw(40, dtype=dtype)}
    judge(ops.bottleneck_hidden, (x, hidden, up, up_bias), options)


def test_folded_hidden_takes_slices_of_the_widened_output(draw, device):
    both = torch.randn(2, 7, 36, device=device)
    up, up_bias = draw(24, 12), draw(24)
    fused = ops.bottleneck_hidden(both[..., :24], both[..., 24:], up, up_bias, impl="fused")
    eager = ops.bottleneck_hidden(both[..., :24], both[..., 24:], up, up_bias)
    torch.testing.assert_close(fused, eager, rtol=1e-5, atol=1e-5)


def test_weight_gradients_are_the_same_bits_every_time(draw):
    arguments, options = bottleneck_case(draw, (3, 50, 24), 8, torch.float32, norm=True)

    def gradients():
        out = ops.bottleneck(*arguments, **options, impl="fused")
        return torch.autograd.grad(out.square().sum(), arguments)

    assert all(torch.equal(a, b) for a, b in zip(gradients(), gradients(), strict=True))


def test_frozen_weights_cost_no_weight_gradients(draw):
    arguments, options = bottleneck_case(draw, (5, 24), 8, torch.float32)
    frozen = [t.detach() for t in arguments[1:]]
    fused = torch.autograd.grad(ops.bottleneck(arguments[0], *frozen, **options, impl="fused").sum(), arguments[0])
    eager = torch.autograd.grad(ops.bottleneck(arguments[0], *frozen, **options).sum(), arguments[0])
    torch.testing.assert_close(fused, eager, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(INTERPRETED, reason="real sizes are for the GPU")
@pytest.mark.parametrize(
    ("shape", "rank"),
    [((485, 768), 64), ((2, 4096, 768), 192), ((77, 512), 48), ((485, 240), 64), ((485, 768), 512), ((1, 512), 256)],
)
def test_the_models_shapes(judge, draw, dtype, shape, rank):
    arguments, options = bottleneck_case(draw, shape, rank, dtype, norm=True, residual=True)
    judge(ops.bottleneck, arguments, options)
