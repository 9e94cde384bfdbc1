"""A model in torch as the runtime sees it: its parts behind the engine protocol, so that one code judges both.

Eager is what a bundle is held against; compiled, and ahead of time by AOTInductor, are yardsticks of speed.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...deploy.engine import Arrays, Engine
from ...deploy.errors import UserError
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
            return dict(zip(self._part.outputs, map(_array, self._call(given)), strict=True))

    def close(self) -> None:
        """Hold nothing; the model belongs to the caller."""

    def _call(self, given: list[Tensor]) -> tuple[Tensor, ...]:
        return self._part(*given)


class CompiledEngine(TorchEngine):
    """The same through `torch.compile`, compiled anew for each shape, so that every shape is the best it can be."""

    name = "torch-compile"

    def __init__(self, part: Part) -> None:
        super().__init__(part)
        with _advice_unheard():
            self._compiled: Callable[..., tuple[Tensor, ...]] = torch.compile(part, dynamic=False)

    def _call(self, given: list[Tensor]) -> tuple[Tensor, ...]:
        with _advice_unheard():
            return self._compiled(*given)


class AotEngine(TorchEngine):
    """The same as packages of AOTInductor: exported, compiled to machine code and loaded, one for each shape."""

    name = "aotinductor"

    def __init__(self, part: Part) -> None:
        super().__init__(part)
        self._packages: dict[Any, Callable[..., Any]] = {}
        self._lock, self._scratch = Lock(), TemporaryDirectory()

    def close(self) -> None:
        """Drop the packages."""
        self._packages.clear()
        self._scratch.cleanup()

    def _call(self, given: list[Tensor]) -> tuple[Tensor, ...]:
        key = tuple((tensor.shape, tensor.dtype) for tensor in given)
        with self._lock:
            if key not in self._packages:
                self._packages[key] = self._package(given)
        return tuple(self._packages[key](*given))

    def _package(self, given: list[Tensor]) -> Callable[..., Any]:
        from torch._inductor import aoti_compile_and_package, aoti_load_package

        path = f"{self._scratch.name}/{len(self._packages)}.pt2"
        with _advice_unheard(), torch.inference_mode(False), torch.no_grad():
            program = torch.export.export(self._part, tuple(tensor.clone() for tensor in given))
            return aoti_load_package(aoti_compile_and_package(program, package_path=path))


WAYS: dict[str, type[TorchEngine]] = {one.name: one for one in (TorchEngine, CompiledEngine, AotEngine)}


def engines_of(model: Promptable, way: str = TorchEngine.name) -> dict[str, Engine]:
    """Return the engines of a model's parts, named as in a bundle; UserError for a way that is not in `WAYS`."""
    if way not in WAYS:
        raise UserError(f"no way {way!r} to run torch; known: {', '.join(WAYS)}")
    return {name: WAYS[way](part) for name, part in parts_of(model).items()}


@contextmanager
def _advice_unheard() -> Iterator[None]:
    """Keep the compiler's advice on precision, threads and its own parts from the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _array(tensor: Tensor) -> np.ndarray:
    return (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
