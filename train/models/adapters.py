"""The bottleneck adapter of VLSM-Adapter (arXiv 2405.06196, figure 1) and its folded form."""

from typing import Literal

import torch
from torch import Tensor, nn

from ...kernels import ops
from .sam.fusion import Fusion

Activation = Literal["relu", "identity"]


def implementation(model: nn.Module, device: torch.device | str) -> ops.Impl | None:
    """Return which implementation of the operators the adapters of `model` take on a device; None: it has none."""
    has_adapters = any(isinstance(module, (Bottleneck, FromHidden, Fusion)) for module in model.modules())
    return ops.preferred(device) if has_adapters else None


class Bottleneck(nn.Module):
    """x + outer(up(relu(down(x)))) on the last axis of width `width`, any dtype that the model runs in.

    The paper's adapter has `outer` = relu, so its correction is never negative. With `zero` the correction starts at
    nothing, which needs `outer` = identity: a ReLU at zero passes no gradient.
    """

    def __init__(self, width: int, rank: int, outer: Activation = "relu", zero: bool = False) -> None:
        super().__init__()
        self.down = nn.Linear(width, rank)
        self.up = nn.Linear(rank, width)
        self.outer: Activation = outer
        if zero:
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the adapted `x`, (..., width)."""
        up, down, impl = self.up, self.down, ops.preferred(x.device)
        return ops.bottleneck(x, down.weight, down.bias, up.weight, up.bias, outer=self.outer, impl=impl)


class FromHidden(nn.Module):
    """The rest of a bottleneck whose down-projection was folded into the linear before it."""

    def __init__(self, adapter: Bottleneck) -> None:
        super().__init__()
        self.up = adapter.up
        self.width = adapter.up.out_features
        self.outer: Activation = adapter.outer

    def forward(self, wide: Tensor) -> Tensor:
        """Return (..., width) from (..., width + rank), features first, hidden last."""
        x, hidden = wide.split([self.width, wide.shape[-1] - self.width], dim=-1)
        impl = ops.preferred(x.device)
        return ops.bottleneck_hidden(x, hidden, self.up.weight, self.up.bias, outer=self.outer, impl=impl)
