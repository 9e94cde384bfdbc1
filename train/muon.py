"""Muon (Jordan et al., 2024; scaled as in arXiv 2502.16982): momentum whose matrices are made orthogonal at each step.

torch has it too, in bfloat16 and one matrix at a time, which costs more than the training itself on a CPU.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """For matrices alone, float32 (rows, columns); all else belongs to another optimiser.

    Args:
        params: the matrices.
        lr: learning rate, of the same scale as AdamW's.
        momentum: of the gradient, with Nesterov's look ahead.
        weight_decay: as AdamW's.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.05
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update every matrix that has a gradient, those of one shape together; `closure` as torch's optimisers."""
        with torch.enable_grad():
            loss = closure() if closure else None
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes[parameter.shape].append(parameter)
            for shape, matrices in shapes.items():
                directions = orthogonal(torch.stack([self._momentum(p, group["momentum"]) for p in matrices]))
                rate = 0.2 * max(shape) ** 0.5 * group["lr"]  # so that an update is as large as AdamW's
                for parameter, direction in zip(matrices, directions, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(direction, alpha=rate)
        return loss

    def _momentum(self, parameter: nn.Parameter, keep: float) -> Tensor:
        assert parameter.grad is not None
        state = self.state[parameter]
        held = state.setdefault("momentum", torch.zeros_like(parameter))
        held.lerp_(parameter.grad, 1 - keep)
        return parameter.grad.lerp(held, keep)


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """Bring the singular values of (B, rows, columns) near 1 (0.7 to 1.2) by a quintic Newton-Schulz iteration."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
