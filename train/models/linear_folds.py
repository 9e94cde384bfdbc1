"""Exact rewritings of linear algebra: what is trained beside a linear layer moves into its weights.

Each returns new layers and leaves its arguments alone; each is exact in real arithmetic (float64 tests to 1e-12).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


@torch.no_grad()
def fold_down(linear: nn.Linear, down: nn.Linear) -> nn.Linear:
    """Return one linear that yields `linear(a)` and `down(linear(a))` side by side: rows [W; D W]."""
    weight = torch.cat([linear.weight, down.weight @ linear.weight])
    bias = down.bias + down.weight @ linear.bias
    return _linear(weight, torch.cat([linear.bias, bias]))


@torch.no_grad()
def fold_gate(linear: nn.Linear, gate: Tensor) -> nn.Linear:
    """Return the linear that yields `gate * linear(a)`; `gate` has shape (out_features,)."""
    return _linear(gate[:, None] * linear.weight, gate * linear.bias)


@torch.no_grad()
def fold_layernorm(norm: nn.LayerNorm, linears: Sequence[nn.Linear]) -> tuple[nn.LayerNorm, list[nn.Linear]]:
    """Move a LayerNorm's scale and shift into every linear that reads it; return the bare norm and the linears."""
    scale, shift = norm.weight, norm.bias
    bare = nn.LayerNorm(list(norm.normalized_shape), norm.eps, elementwise_affine=False)
    return bare, [_linear(one.weight * scale, one.bias + one.weight @ shift) for one in linears]


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    out_features, in_features = weight.shape
    linear = nn.Linear(in_features, out_features, device="meta")
    linear.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    linear.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return linear
