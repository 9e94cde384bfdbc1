"""Operators as nodes of an exported graph: one node in domain `vlseg` for each kernel that an engine may launch.

impl="node" computes nothing. It leaves an opaque node where an operator was, for `torch.onnx.export`; `export/` adds
the function that says what the node means, and an engine either inlines that or launches the kernel as a plugin.

A node has no attributes of its own (a plugin's are unreliable before TensorRT 11.4): what is not in the shapes of its
inputs is in its name. Its inputs come in the order of the kernel's arguments, so that the kernel can be launched with
them as they are.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .reference import Attention, Norm

DOMAIN = "vlseg"
ATTRIBUTES: dict[str, Any] = {"plugin_namespace": DOMAIN, "plugin_version": "1", "aot": 1}
"""How TensorRT finds the plugin; everything else ignores them."""

_WORDS = {"identity": "Identity", "relu": "Relu", "gelu": "Gelu", "quick-gelu": "QuickGelu"}
_NAMES = {word: name for name, word in _WORDS.items()}
_ACTIVATION = "|".join(sorted(_NAMES, key=len, reverse=True))
_BOTTLENECK = re.compile(rf"Bottleneck(Hidden)?(?:Norm(\d+))?({_ACTIVATION})({_ACTIVATION})(Scaled)?(Residual)?")
_CLOSED = re.compile(r"GatedCrossAttentionNorm(\d+)")


@dataclass(frozen=True)
class BottleneckNode:
    """`ops.bottleneck`, or `ops.bottleneck_hidden` where `folded`, on rows (rows, width).

    Attributes:
        inner: activation after the down-projection.
        outer: activation after the up-projection.
        eps: negative power of ten of the norm's epsilon; None without a norm.
        folded: the hidden comes as an input.
        scaled: the update is scaled, per channel.
        residual: a second residual is added.
    """

    inner: str
    outer: str
    eps: int | None = None
    folded: bool = False
    scaled: bool = False
    residual: bool = False

    @property
    def name(self) -> str:
        """The operator type of the node."""
        norm = "" if self.eps is None else f"Norm{self.eps}"
        ends = "Scaled" * self.scaled + "Residual" * self.residual
        return f"Bottleneck{'Hidden' * self.folded}{norm}{_WORDS[self.inner]}{_WORDS[self.outer]}{ends}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The inputs' names, in their order."""
        norm = ("norm_weight", "norm_bias") if self.eps is not None else ()
        made = ("hidden",) if self.folded else ()
        down = () if self.folded else ("down", "down_bias")
        ends = ("scale",) * self.scaled
        return ("x", *made, *("residual",) * self.residual, *norm, *down, "up", "up_bias", *ends)


@dataclass(frozen=True)
class ClosedNode:
    """`ops.gated_cross_attention` with one text token, unmasked: vision (batch, tokens, width), text (batch, 1, width).

    Attributes:
        eps: negative power of ten of the text norm's epsilon.
    """

    eps: int

    @property
    def name(self) -> str:
        """The operator type of the node."""
        return f"GatedCrossAttentionNorm{self.eps}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The inputs' names, in their order."""
        weights = ("value_weight", "value_bias", "out_weight", "out_bias", "gamma")
        return ("vision", "text", "norm_weight", "norm_bias", *weights)


Node = BottleneckNode | ClosedNode


def parse(name: str) -> Node:
    """Return the node that an operator type of the domain names, or refuse it."""
    if found := _BOTTLENECK.fullmatch(name):
        hidden, eps, inner, outer, scaled, residual = found.groups()
        power = None if eps is None else int(eps)
        return BottleneckNode(_NAMES[inner], _NAMES[outer], power, bool(hidden), bool(scaled), bool(residual))
    if found := _CLOSED.fullmatch(name):
        return ClosedNode(int(found[1]))
    raise ValueError(f"no operator {name!r} in domain {DOMAIN}: export with the vlseg that wrote the graph")


def power_of(eps: float) -> int | None:
    """Return n where eps is 10^-n, else None: such a norm has no name here."""
    return next((n for n in range(1, 13) if eps == float(f"1e-{n}")), None)


def bottleneck(
    x: Tensor,
    down_weight: Tensor | None,
    down_bias: Tensor | None,
    up_weight: Tensor,
    up_bias: Tensor,
    *,
    hidden: Tensor | None = None,
    inner: str,
    outer: str,
    norm: Norm | None = None,
    scale: Tensor | None = None,
    residual: Tensor | None = None,
) -> Tensor | None:
    """Leave the node of a bottleneck and return what stands for its output; None where it has no node."""
    eps = None if norm is None else power_of(norm.eps)
    if norm is not None and eps is None:
        return None
    node = BottleneckNode(inner, outer, eps, hidden is not None, scale is not None, residual is not None)
    given = {
        "x": _rows(x),
        "hidden": None if hidden is None else _rows(hidden),
        "residual": None if residual is None else _rows(residual),
        "norm_weight": None if norm is None else norm.weight,
        "norm_bias": None if norm is None else norm.bias,
        "down": down_weight,
        "down_bias": down_bias,
        "up": up_weight,
        "up_bias": up_bias,
        "scale": None if scale is None else scale.expand(x.shape[-1]),
    }
    rows = _leave(node, given, _rows(x))
    return rows if x.dim() == 2 else rows.reshape(x.shape)


def gated_cross_attention(
    vision: Tensor,
    text: Tensor,
    attention: Attention,
    text_norm: Norm,
    gamma: Tensor,
) -> Tensor | None:
    """Leave the node of a gated cross-attention with one text token, or return None where it has no node."""
    eps = power_of(text_norm.eps)
    if text.shape[1] != 1 or eps is None:
        return None
    a = attention
    weights = (text_norm.weight, text_norm.bias, a.value_weight, a.value_bias, a.out_weight, a.out_bias, gamma)
    node = ClosedNode(eps)
    return _leave(node, dict(zip(node.inputs, (vision, text, *weights), strict=True)), vision)


def _rows(x: Tensor) -> Tensor:
    return x if x.dim() == 2 else x.flatten(0, -2)


def _leave(node: Node, given: dict[str, Any], like: Tensor) -> Tensor:
    if not torch.compiler.is_exporting():
        raise ValueError("impl is 'node', which computes nothing: use it inside torch.export alone")
    tensors = [given[name] for name in node.inputs]
    return torch.onnx.ops.symbolic(
        f"{DOMAIN}::{node.name}", tensors, ATTRIBUTES, dtype=like.dtype, shape=like.shape, version=1
    )
