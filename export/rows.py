"""Linears on rows: (B, N, C) as (B N, C), where an engine has one operator for product, bias and ReLU (Gemm).

On three axes a linear becomes MatMul, then Add, then Relu, and every one of them walks through memory again.
"""

import torch
from torch import Tensor, nn


class OnRows(nn.Module):
    """Run a module that works on the last axis alone with the two axes before it joined."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, N, out) from (B, N, in)."""
        return self.module(x.flatten(0, 1)).unflatten(0, (-1, x.shape[1]))


@torch.no_grad()
def linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """Return the frozen linear of a weight (out, in) and a bias (out,) or none."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    made.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return made
