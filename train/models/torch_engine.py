"""A model in torch as the runtime sees it: its parts behind the engine protocol, so that one code judges both."""

import numpy as np
import torch
from torch import Tensor

from ...deploy.engine import Arrays, Engine
from .parts import Part, parts_of
from .promptable import Promptable


class TorchEngine(Engine):
    """One part of a model: numpy in, numpy out, on the model's device, without gradients."""

    name = "torch"

    def __init__(self, part: Part) -> None:
        self._part, self._device = part, next(part.parameters()).device

    def run(self, inputs: Arrays) -> Arrays:
        """Return the part's outputs by name; what is not a whole number or bool is float32."""
        given = [torch.from_numpy(np.ascontiguousarray(inputs[name])).to(self._device) for name in self._part.inputs]
        with torch.inference_mode():
            return dict(zip(self._part.outputs, map(_array, self._part(*given)), strict=True))

    def close(self) -> None:
        """Hold nothing; the model belongs to the caller."""


def engines_of(model: Promptable) -> dict[str, Engine]:
    """Return the engines of a model's parts, named as in a bundle."""
    return {name: TorchEngine(part) for name, part in parts_of(model).items()}


def _array(tensor: Tensor) -> np.ndarray:
    return (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
