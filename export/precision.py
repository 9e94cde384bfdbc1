"""The precisions a part is exported in. The graph says it all: engines are strongly typed and choose nothing."""

import copy

import torch
from torch import Tensor, nn

from ..deploy.errors import UserError

PRECISIONS = ("fp32", "fp16")


class HalfInside(nn.Module):
    """A part in float16 whose inputs and outputs are float32, so that parts fit together in any precision.

    Layer norms keep their statistics in float32 (ONNX `stash_type` 1, and torch's own kernel).
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(module).half()

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Return the part's outputs in float32; what is not of floating point passes as it is."""
        outputs = self.module(*(one.half() if one.is_floating_point() else one for one in given))
        return tuple(one.float() if one.is_floating_point() else one for one in outputs)


def check_precision(precision: str) -> None:
    """Refuse a precision that no part can be exported in."""
    if precision not in PRECISIONS:
        raise UserError(f"no precision {precision!r} here; known: {', '.join(PRECISIONS)}")


def in_precision(module: nn.Module, precision: str) -> nn.Module:
    """Return `module` in a precision of `PRECISIONS`, float32 at its ends.

    Raises:
        UserError: another precision, or weights beyond the range of float16.
    """
    check_precision(precision)
    if precision == "fp32":
        return module
    half = HalfInside(module)
    if not all(torch.isfinite(p).all() for p in half.parameters()):
        raise UserError("the weights do not fit into fp16 (beyond 65504): export with --precision fp32")
    return half
