"""The operators: bottleneck, gated cross-attention, text pooling, and the fusion module made of them.

`reference.py` says what each means. The caller chooses the implementation, and nothing falls back by itself:

impl="reference"  plain PyTorch, anywhere
impl="fused"      Triton, forward and backward, on a CUDA tensor (or a CPU tensor in Triton's interpreter)
impl="node"       no computation: a node of the graph that is being exported (`nodes.py`)

The first two are differentiable, work under autocast, and neither breaks a graph of `torch.compile` or `torch.export`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from . import checks, forms, nodes, reference
from .reference import Attention, Bottleneck, Fusion, Norm

__all__ = [
    "Attention",
    "Bottleneck",
    "Fusion",
    "Impl",
    "Norm",
    "bottleneck",
    "bottleneck_hidden",
    "fusion",
    "gated_cross_attention",
    "preferred",
    "preferring",
    "text_pooling",
]

Impl = Literal["fused", "reference", "node"]


_preferences: list[Impl] = []


def preferred(device: torch.device | str) -> Impl:
    """Return the implementation that suits a device: fused on a GPU, reference elsewhere; or the one asked for."""
    if _preferences:
        return _preferences[-1]
    return "fused" if torch.device(device).type == "cuda" else "reference"


@contextmanager
def preferring(impl: Impl) -> Iterator[None]:
    """Let `preferred` return one implementation inside, whatever the device: to measure one against the other."""
    checks.check_impl(impl)
    _preferences.append(impl)
    try:
        yield
    finally:
        _preferences.pop()


def bottleneck(
    x: Tensor,
    down_weight: Tensor,
    down_bias: Tensor,
    up_weight: Tensor,
    up_bias: Tensor,
    *,
    inner: str = "relu",
    outer: str = "relu",
    norm: Norm | None = None,
    scale: Tensor | None = None,
    residual: Tensor | None = None,
    impl: Impl = "reference",
) -> Tensor:
    """Return residual + x + scale * outer(inner(norm(x) D + d) U + u), an adapter of the shape of `x`.

    Args:
        x: (..., width), float32, float16 or bfloat16; the last axis contiguous.
        down_weight: (rank, width), as `torch.nn.Linear` keeps it; `down_bias` (rank,).
        down_bias: see `down_weight`.
        up_weight: (width, rank); `up_bias` (width,).
        up_bias: see `up_weight`.
        inner: activation after the down-projection: "identity", "relu", "gelu" or "quick-gelu".
        outer: activation after the up-projection, one of the same.
        norm: layer norm applied to `x` before the down-projection only.
        scale: one number or one per channel, on the update.
        residual: a second residual of the shape of `x`.
        impl: "fused" or "reference".

    Raises:
        ValueError: shapes, devices or names that do not fit.
        TypeError: dtypes that do not fit.
    """
    checks.check_impl(impl)
    checks.check_bottleneck(x, up_weight, up_bias, inner, outer, scale, residual)
    width, rank = up_weight.shape
    checks.check_shape("down_weight", down_weight, (rank, width), f"up_weight is {(width, rank)}")
    checks.check_shape("down_bias", down_bias, (rank,), f"up_weight is {(width, rank)}")
    checks.check_norm("norm", norm, width)
    checks.check_alike(
        "x",
        {
            "x": x,
            "residual": residual,
            "down_weight": down_weight,
            "down_bias": down_bias,
            "up_weight": up_weight,
            "up_bias": up_bias,
            "scale": scale,
            "norm.weight": None if norm is None else norm.weight,
            "norm.bias": None if norm is None else norm.bias,
        },
    )
    arguments = (x, down_weight, down_bias, up_weight, up_bias)
    options = {"inner": inner, "outer": outer, "norm": norm, "scale": scale, "residual": residual}
    if impl == "node" and (left := nodes.bottleneck(*arguments, **options)) is not None:
        return left
    if impl != "fused":
        return reference.bottleneck(*arguments, **options)
    from . import library

    return library.bottleneck(*arguments, **options)


def bottleneck_hidden(
    x: Tensor,
    hidden: Tensor,
    up_weight: Tensor,
    up_bias: Tensor,
    *,
    inner: str = "relu",
    outer: str = "relu",
    scale: Tensor | None = None,
    residual: Tensor | None = None,
    impl: Impl = "reference",
) -> Tensor:
    """Return residual + x + scale * outer(inner(hidden) U + u): `bottleneck` with its down-projection folded away.

    `hidden` (..., rank) is what the linear in front delivers once its weight is [W; D W]; `x` and `hidden` may be
    slices of its output, which are not copied. The other arguments are those of `bottleneck`.
    """
    checks.check_impl(impl)
    checks.check_bottleneck(x, up_weight, up_bias, inner, outer, scale, residual)
    checks.check_shape("hidden", hidden, (*x.shape[:-1], up_weight.shape[1]), f"x is {tuple(x.shape)}")
    checks.check_alike(
        "x",
        {"x": x, "hidden": hidden, "residual": residual, "up_weight": up_weight, "up_bias": up_bias, "scale": scale},
    )
    arguments = (x, hidden, up_weight, up_bias)
    options = {"inner": inner, "outer": outer, "scale": scale, "residual": residual}
    if impl == "node":
        left = nodes.bottleneck(x, None, None, up_weight, up_bias, hidden=hidden, **options)
        assert left is not None  # there is no norm that could lack a name
        return left
    if impl == "reference":
        return reference.bottleneck_hidden(*arguments, **options)
    from . import library

    return library.bottleneck_hidden(*arguments, **options)


def gated_cross_attention(
    vision: Tensor,
    text: Tensor,
    attention: Attention,
    vision_norm: Norm,
    text_norm: Norm,
    gamma: Tensor,
    *,
    heads: int = 1,
    mask: Tensor | None = None,
    impl: Impl = "reference",
) -> Tensor:
    """Return V + gamma * Attn(LN V, LN L), of the shape of `vision`.

    Args:
        vision: (batch, tokens, width), the queries.
        text: (batch, K, width), the keys and values.
        attention: the four linears, of any inner size that `heads` divides.
        vision_norm: layer norm of the queries.
        text_norm: layer norm of the keys and values.
        gamma: (width,), the gate.
        heads: number of heads.
        mask: bool (batch, K), True where a token is real; where none is, the output bias alone moves the image.
        impl: "fused" or "reference". Both take the form that `forms.fusion_form` names.

    Raises:
        ValueError: shapes or devices that do not fit.
        TypeError: dtypes that do not fit.
    """
    checks.check_impl(impl)
    checks.check_streams(vision, text)
    width = vision.shape[2]
    checks.check_attention(attention, width, heads)
    checks.check_norm("vision_norm", vision_norm, width)
    checks.check_norm("text_norm", text_norm, width)
    checks.check_shape("gamma", gamma, (width,), f"vision has width {width}")
    checks.check_mask(mask, text)
    checks.check_alike("vision", _fusion_tensors(vision, text, attention, vision_norm, text_norm) | {"gamma": gamma})
    arguments = (vision, text, attention, vision_norm, text_norm, gamma)
    if impl == "node" and mask is None:
        left = nodes.gated_cross_attention(vision, text, attention, text_norm, gamma)
        if left is not None:
            return left
    if impl != "fused":
        return _in_form(*arguments, heads, mask)
    from . import library

    return library.gated_cross_attention(*arguments, heads=heads, mask=mask)


def _in_form(
    vision: Tensor,
    text: Tensor,
    attention: Attention,
    vision_norm: Norm,
    text_norm: Norm,
    gamma: Tensor,
    heads: int,
    mask: Tensor | None,
) -> Tensor:
    """Return the gated cross-attention in plain PyTorch, in the form that its shape asks for."""
    form = forms.fusion_form(heads, text.shape[1], attention.query_weight.shape[0])
    if form == "closed":
        return reference.closed_cross_attention(vision, text, attention, text_norm, gamma, mask)
    exact = reference.adapter_cross_attention if form == "adapter" else reference.gated_cross_attention
    return exact(vision, text, attention, vision_norm, text_norm, gamma, heads=heads, mask=mask)


def text_pooling(
    text: Tensor,
    vision: Tensor,
    attention: Attention,
    text_norm: Norm,
    vision_norm: Norm,
    *,
    heads: int = 1,
    impl: Impl = "reference",
) -> Tensor:
    """Return L + Attn(LN L, LN V), of the shape of `text`: each text token pools the image.

    Both implementations take the form that `forms.pooling_form` names: absorbed keys for few queries, plain beyond.

    Args:
        text: (batch, K, width), the queries.
        vision: (batch, tokens, width), the keys and values.
        attention: the four linears, of any inner size that `heads` divides.
        text_norm: layer norm of the queries.
        vision_norm: layer norm of the keys and values.
        heads: number of heads.
        impl: "fused" or "reference".

    Raises:
        ValueError: shapes or devices that do not fit.
        TypeError: dtypes that do not fit.
    """
    checks.check_impl(impl)
    checks.check_streams(vision, text)
    width = vision.shape[2]
    if vision.shape[1] == 0:
        raise ValueError(f"vision is {tuple(vision.shape)}: expected at least one token to pool")
    checks.check_attention(attention, width, heads)
    checks.check_norm("vision_norm", vision_norm, width)
    checks.check_norm("text_norm", text_norm, width)
    checks.check_alike("vision", _fusion_tensors(vision, text, attention, vision_norm, text_norm))
    arguments = (text, vision, attention, text_norm, vision_norm)
    if impl == "fused":
        from . import library

        return library.text_pooling(*arguments, heads=heads)
    if forms.pooling_form(heads, text.shape[1], attention.query_weight.shape[0]) == "absorbed":
        return reference.absorbed_text_pooling(*arguments, heads=heads)
    return reference.text_pooling(*arguments, heads=heads)


def fusion(
    vision: Tensor,
    text: Tensor,
    weights: Fusion,
    *,
    heads: int = 1,
    mask: Tensor | None = None,
    impl: Impl = "reference",
) -> tuple[Tensor, Tensor]:
    """Return (vision, text) after one fusion module: text pooling, text MLP, gated cross-attention, vision MLP.

    With one text token the fused form launches six kernels. `vision` (batch, tokens, width), `text` (batch, K, width).
    """
    w = weights
    text = text_pooling(text, vision, w.pooling, w.pooling_text_norm, w.pooling_vision_norm, heads=heads, impl=impl)
    text = bottleneck(text, *w.text_mlp, outer="identity", norm=w.text_mlp_norm, impl=impl)
    vision = gated_cross_attention(
        vision,
        text,
        w.injection,
        w.injection_vision_norm,
        w.injection_text_norm,
        w.gamma,
        heads=heads,
        mask=mask,
        impl=impl,
    )
    return bottleneck(vision, *w.vision_mlp, outer="identity", norm=w.vision_mlp_norm, impl=impl), text


def _fusion_tensors(
    vision: Tensor, text: Tensor, attention: Attention, vision_norm: Norm, text_norm: Norm
) -> dict[str, Tensor | None]:
    """Return every tensor of a cross-attention by its name in an error message."""
    return {
        "vision": vision,
        "text": text,
        **attention._asdict(),
        "vision_norm.weight": vision_norm.weight,
        "vision_norm.bias": vision_norm.bias,
        "text_norm.weight": text_norm.weight,
        "text_norm.bias": text_norm.bias,
    }
