"""Bad input to an operator, told in one sentence with the shapes: what was given, what was expected, the way out."""

import torch
from torch import Tensor

from .reference import ACTIVATIONS, Attention, Norm

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def check_impl(impl: str) -> None:
    """Refuse an implementation that does not exist."""
    if impl not in ("fused", "reference", "node"):
        raise ValueError(f"impl is {impl!r}: expected 'fused' or 'reference' ('node' while exporting)")


def check_activation(role: str, name: str) -> None:
    """Refuse an activation that does not exist."""
    if name not in ACTIVATIONS:
        raise ValueError(f"{role} is {name!r}: expected one of {', '.join(ACTIVATIONS)}")


def check_shape(name: str, tensor: Tensor, expected: tuple[int, ...], because: str) -> None:
    """Refuse a tensor that is not of the shape that `because` asks for."""
    if tuple(tensor.shape) != expected:
        raise ValueError(f"{name} is {tuple(tensor.shape)} but {because}: expected {expected}")


def check_alike(first: str, tensors: dict[str, Tensor | None]) -> None:
    """Refuse tensors on several devices, or of several dtypes outside autocast."""
    lead = tensors[first]
    assert lead is not None
    if lead.dtype not in FLOATS:
        raise TypeError(f"{first} is {lead.dtype}: expected a floating dtype")
    mixed = torch.is_autocast_enabled(lead.device.type)
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if tensor.device != lead.device:
            raise ValueError(f"{name} is on {tensor.device} but {first} on {lead.device}: move one of them")
        if tensor.dtype != lead.dtype and not mixed:
            raise TypeError(f"{name} is {tensor.dtype} but {first} is {lead.dtype}: cast one, or use autocast")


def check_norm(name: str, norm: Norm | None, width: int) -> None:
    """Refuse a layer norm of another width."""
    if norm is not None:
        check_shape(f"{name}.weight", norm.weight, (width,), f"the width is {width}")
        check_shape(f"{name}.bias", norm.bias, (width,), f"the width is {width}")


def check_scale(scale: Tensor | None, width: int) -> None:
    """Refuse a scale that is neither one number nor one per channel."""
    if scale is not None and tuple(scale.shape) not in ((), (1,), (width,)):
        raise ValueError(f"scale is {tuple(scale.shape)} but x has width {width}: expected () or (1,) or ({width},)")


def check_bottleneck(
    x: Tensor,
    up_weight: Tensor,
    up_bias: Tensor,
    inner: str,
    outer: str,
    scale: Tensor | None,
    residual: Tensor | None,
) -> None:
    """Refuse what both the whole and the folded bottleneck would trip over."""
    if x.ndim == 0:
        raise ValueError("x has no axis: expected (..., width)")
    width = x.shape[-1]
    check_activation("inner", inner)
    check_activation("outer", outer)
    if up_weight.ndim != 2 or up_weight.shape[0] != width:
        raise ValueError(f"up_weight is {tuple(up_weight.shape)} but x has width {width}: expected ({width}, rank)")
    check_shape("up_bias", up_bias, (width,), f"x has width {width}")
    check_scale(scale, width)
    if residual is not None:
        check_shape("residual", residual, tuple(x.shape), "x is its partner")


def check_attention(attention: Attention, width: int, heads: int) -> None:
    """Refuse attention weights that do not fit the width, or an inner size that the heads do not divide."""
    if attention.query_weight.ndim != 2:
        raise ValueError(f"query_weight is {tuple(attention.query_weight.shape)}: expected (inner, {width})")
    inner = attention.query_weight.shape[0]
    because = f"the width is {width} and the inner size {inner}"
    for name in ("query", "key", "value"):
        check_shape(f"{name}_weight", getattr(attention, f"{name}_weight"), (inner, width), because)
        check_shape(f"{name}_bias", getattr(attention, f"{name}_bias"), (inner,), because)
    check_shape("out_weight", attention.out_weight, (width, inner), because)
    check_shape("out_bias", attention.out_bias, (width,), because)
    if heads < 1 or inner % heads:
        raise ValueError(f"heads is {heads} but the inner size is {inner}: expected a divisor of it")


def check_streams(vision: Tensor, text: Tensor) -> None:
    """Refuse two streams that do not belong together."""
    if vision.ndim != 3 or text.ndim != 3:
        raise ValueError(
            f"vision is {tuple(vision.shape)} and text {tuple(text.shape)}: expected (batch, tokens, width) both"
        )
    check_shape("text", text, (vision.shape[0], text.shape[1], vision.shape[2]), f"vision is {tuple(vision.shape)}")
    if text.shape[1] == 0:
        raise ValueError(f"text is {tuple(text.shape)}: expected at least one token")


def check_mask(mask: Tensor | None, text: Tensor) -> None:
    """Refuse a key padding mask that is not bool (batch, tokens)."""
    if mask is None:
        return
    check_shape("mask", mask, tuple(text.shape[:2]), f"text is {tuple(text.shape)}")
    if mask.dtype != torch.bool:
        raise TypeError(f"mask is {mask.dtype}: expected bool, True where a token is real")
    if mask.device != text.device:
        raise ValueError(f"mask is on {mask.device} but text on {text.device}: move one of them")
