"""The precisions a part is exported in. The graph says it all: engines are strongly typed and choose nothing."""

import copy

import torch
from torch import Tensor, nn

from ..deploy.errors import UserError
from .graph import OPSET, OPSETS

PRECISIONS = {
    "fp32": ("fp32", ""),
    "fp16": ("fp16", ""),
    "int8": ("fp32", "int8"),
    "int8-fp16": ("fp16", "int8"),
    "fp8": ("fp16", "fp8"),
}
"""By name: the precision of a part's tensors, and the eight-bit numbers that the encoders' linear layers compute in.

On a CPU `int8` is the fast one, on a GPU `int8-fp16`; `fp8` is for Ada and newer.
"""


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


def check_opset(opset: int, precision: str) -> None:
    """Refuse an opset that no part can be exported in, or that lacks what a precision is written with."""
    check_precision(precision)
    if opset not in OPSETS:
        raise UserError(f"no opset {opset} here; known: {', '.join(map(str, OPSETS))}")
    half, bits = PRECISIONS[precision]
    if bits and half == "fp16" and opset < 19:
        raise UserError(f"ONNX opset {opset} has no float16 scales, which {precision} needs: export with opset {OPSET}")


def check_calibration(precision: str, given: bool) -> None:
    """Refuse eight bits without pictures to measure ranges on, and pictures where nothing is measured."""
    check_precision(precision)
    if bool(PRECISIONS[precision][1]) == given:
        return
    if given:
        eight = ", ".join(name for name, (_, bits) in PRECISIONS.items() if bits)
        raise UserError(f"pictures to calibrate on go with --precision {eight}, not {precision}: leave --calibrate out")
    raise UserError(f"{precision} is calibrated on pictures of the kind that will be asked: give --calibrate DIR")


def in_precision(module: nn.Module, precision: str) -> nn.Module:
    """Return `module` in a precision of `PRECISIONS`, float32 at its ends; eight bits come in later, into its graph.

    Raises:
        UserError: another precision, or weights beyond the range of float16.
    """
    check_precision(precision)
    if PRECISIONS[precision][0] == "fp32":
        return module
    half = HalfInside(module)
    if not all(torch.isfinite(p).all() for p in half.parameters()):
        raise UserError("the weights do not fit into fp16 (beyond 65504): export with --precision fp32")
    return half
