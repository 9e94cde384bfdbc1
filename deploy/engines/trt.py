"""TensorRT: engines that `vlseg build` made on this device, one for each part and batch size."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EngineError
from ..facts import gpus
from ..manifest import Manifest
from ..tensorrt import library
from ..tensorrt.cuda import Cuda
from ..tensorrt.log import ear
from ..tensorrt.network import LENGTH
from ..tensorrt.plans import INDEX, Here, check_file, usable
from ..tensorrt.runtime import Static, names
from .protocol import Arrays, Engine, Kind, Part

NAME, PLAIN = "tensorrt", "tensorrt-no-graph"


class TensorRT(Engine):
    """One part on TensorRT, for any batch: it is cut into the sizes that were built, the last piece filled up.

    Safe for several threads, which take turns.
    """

    def __init__(
        self,
        part: str,
        engines: dict[int, Static],
        axes: dict[str, list[int | str]],
        outputs: list[str],
        name: str = NAME,
        refit: tuple[str, ...] = (),
    ):
        """Take the engines of a part by batch size, the dims of its inputs and outputs, and the outputs' names.

        `refit` names the weights that may come with the inputs of a run; they are exchanged where they have changed.
        """
        self.name, self.swaps = name, bool(refit)
        self._refit = refit
        self._weights: tuple[np.ndarray, ...] = ()
        self._part, self._axes, self._outputs = part, axes, outputs
        self._engines = dict(sorted(engines.items(), reverse=True))
        self._lock = threading.Lock()

    def run(self, inputs: Arrays) -> Arrays:
        """Return every output by name.

        Raises:
            EngineError: inputs that no engine was built for, or the engine is closed.
        """
        with self._lock:
            inputs = self._with_weights(inputs)
            pieces = [one.run(piece) for one, piece in self._cut(inputs)]
        return self._joined(pieces, inputs)

    def run_split(self, inputs: Arrays) -> tuple[Arrays, dict[str, float]]:
        """Return what `run` does, and the milliseconds of `h2d`, `enqueue`, `compute` and `d2h`; errors as `run`."""
        with self._lock:
            inputs = self._with_weights(inputs)
            split = [one.run_split(piece) for one, piece in self._cut(inputs)]
        times = {name: sum(ms[name] for _, ms in split) for name in ("h2d", "enqueue", "compute", "d2h")}
        return self._joined([out for out, _ in split], inputs), times

    def close(self) -> None:
        """Give everything back to the GPU."""
        with self._lock:
            for engine in self._engines.values():
                engine.close()
            self._engines = {}

    def _with_weights(self, inputs: Arrays) -> Arrays:
        """Exchange the weights among the inputs, unless they are those of the last run; return the inputs proper."""
        given = {name: inputs[name] for name in self._refit if name in inputs}
        arrays = tuple(given.values())
        if len(arrays) != len(self._weights) or any(a is not b for a, b in zip(arrays, self._weights, strict=True)):
            if len(given) != len(self._refit):
                raise EngineError(f"the {self._part} engine takes all {len(self._refit)} weights of an adapter, always")
            for engine in self._engines.values():
                engine.refit(given)
            self._weights = arrays
        return {name: array for name, array in inputs.items() if name not in given}

    def _cut(self, inputs: Arrays) -> Iterator[tuple[Static, Arrays]]:
        """Yield one built size after the other with the rows it gets, the largest that fits first."""
        if not self._engines:
            raise EngineError(f"the {self._part} engine is closed: open the bundle again")
        given = {name: self._fitted(name, array) for name, array in inputs.items()}
        counts = {len(array) for array in given.values()}
        if len(counts) != 1 or not min(counts):
            raise EngineError(f"the {self._part} engine takes as many rows of each input, at least one, not {counts}")
        start, rows = 0, counts.pop()
        while start < rows:
            size = next((size for size in self._engines if size <= rows - start), min(self._engines))
            yield (
                self._engines[size],
                {name: _filled(array[start : start + size], size) for name, array in given.items()},
            )
            start += size

    def _joined(self, pieces: list[Arrays], inputs: Arrays) -> Arrays:
        """Return the pieces' outputs behind each other, without the rows that filled the last one up."""
        rows = len(next(iter(inputs.values())))
        return {name: np.concatenate([piece[name] for piece in pieces])[:rows] for name in self._outputs}

    def _fitted(self, name: str, array: np.ndarray) -> np.ndarray:
        """Return an input with its sentences at the length of the engine; the mask hides what is added."""
        dims = self._axes.get(name)
        if dims is None:
            raise EngineError(f"the {self._part} engine has no input {name!r}")
        if len(dims) > 1 and dims[1] == "length" and array.ndim == 2:
            if array.shape[1] > LENGTH:
                raise EngineError(f"{name} has {array.shape[1]} tokens, the engine was built for at most {LENGTH}")
            added = LENGTH - array.shape[1]
            # a sentence ends with its end token, which is the padding too; a mask goes on with zeros
            end = array[:, -1:] if name == "input_ids" else np.zeros_like(array[:, :1])
            array = np.concatenate([array, np.repeat(end, added, axis=1)], axis=1)
        wanted = tuple(dims[1:]) if "length" not in dims[1:] else (LENGTH, *dims[2:])
        if array.shape[1:] != wanted:
            raise EngineError(f"{name} is {array.shape}, the {self._part} engine was built for (n, {wanted})")
        return array


def _filled(array: np.ndarray, size: int) -> np.ndarray:
    """Return an array of `size` rows, the last one repeated where there are fewer."""
    lacking = size - len(array)
    return np.concatenate([array, np.repeat(array[-1:], lacking, axis=0)]) if lacking else array


def open_part(part: Part, trt: Any, cuda: Cuda, graph: bool = True) -> TensorRT:
    """Return the engine of a part, from what was built on this device; `graph` False queues every run call by call.

    Raises:
        EngineError: nothing was built, it is stale or damaged, or TensorRT refuses it.
    """
    device, heard = cuda.device(), ear(trt)
    here = Here(device.name, device.capability, trt.__version__)
    opened: dict[int, Static] = {}
    refit: tuple[str, ...] = ()
    try:
        for plan in usable(part.folder, part.manifest, part.name, here):
            data = check_file(part.folder, plan)
            refit = plan.key.refit
            opened[plan.key.batch] = Static(trt, cuda, heard, data, names(plan), plan.graph and graph)
    except EngineError:
        for engine in opened.values():
            engine.close()
        raise
    flow = part.manifest.flow[part.name]
    name = NAME if graph else PLAIN
    return TensorRT(part.name, opened, part.manifest.axes[part.name], flow["outputs"], name, refit)


def _open(part: Part) -> Engine:
    if lacks := _missing():
        raise EngineError(lacks)
    return open_part(part, library.load(), Cuda())


def _open_plain(part: Part) -> Engine:
    if lacks := _missing():
        raise EngineError(lacks)
    return open_part(part, library.load(), Cuda(), graph=False)


def _unfit(folder: Path, manifest: Manifest) -> str | None:
    """Say what has to be built; whether it was built here is told when it is opened."""
    return (
        None
        if (folder / INDEX).is_file()
        else f"no TensorRT engine was built for {manifest.name}: vlseg build {folder}"
    )


def _missing() -> str | None:
    if lacks := library.missing():
        return lacks
    return None if gpus() else "TensorRT runs on an NVIDIA GPU, and none answers here: use --engine onnxruntime"


KIND = Kind(NAME, _open, _missing, _unfit)
# For `vlseg bench`: what the CUDA graph is worth.
WITHOUT_GRAPH = Kind(PLAIN, _open_plain, _missing, _unfit, by_name_only=True)
