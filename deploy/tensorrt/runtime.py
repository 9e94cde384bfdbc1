"""A TensorRT engine of one batch size: its buffers, its one stream, and the CUDA graph that replays it."""

import contextlib
from collections.abc import Mapping
from itertools import pairwise
from time import perf_counter
from typing import Any

import numpy as np

from ..errors import EngineError
from .cuda import Cuda
from .log import first_error
from .plans import Plan

Arrays = dict[str, np.ndarray]


class Static:
    """One engine with static shapes, ready to run. Not safe for several threads: its owner has the lock.

    A run copies into page-locked memory, replays copy, execution and copy back from a CUDA graph, and waits. With
    `graph` False the same is queued call by call.

    Attributes:
        shapes: shape of every input and output.
    """

    # handles of libraries that have no types
    _stream: Any
    _graph: Any
    _runtime: Any
    _engine: Any
    _context: Any

    def __init__(self, trt: Any, cuda: Cuda, heard: Any, data: bytes, what: str, graph: bool = True) -> None:
        """Load an engine from its bytes; `what` names it in errors.

        Raises:
            EngineError: TensorRT refuses the bytes, a shape is not static, or the GPU has no memory left.
        """
        self._trt, self._cuda, self._what, self._heard = trt, cuda, what, heard
        self._addresses: list[int] = []
        self._locked: list[int] = []
        self._stream = self._graph = None
        self._runtime = trt.Runtime(heard)
        self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise EngineError(
                f"TensorRT cannot load {what} ({first_error(heard.lines)}): build it again on this device"
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(f"TensorRT cannot prepare {what} ({first_error(heard.lines)}): close other programs")
        try:
            self._prepare(trt, graph)
        except EngineError:
            self.close()
            raise

    def _prepare(self, trt: Any, graph: bool) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._host: Arrays = {}
        self._device: dict[str, int] = {}
        self._inputs: list[str] = []
        self._stream = self._cuda.stream()
        for i in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(i)
            if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                self._inputs.append(name)
            self._hold(name, tuple(self._engine.get_tensor_shape(name)), self._engine.get_tensor_dtype(name), trt)
        # the first run makes TensorRT allocate what it defers, which a capture forbids
        self._queue()
        self._cuda.wait(self._stream)
        if graph:
            self._graph = self._recorded()

    def _recorded(self) -> Any:
        """Return one run as a CUDA graph."""
        self._cuda.begin_capture(self._stream)
        try:
            self._queue()
        except EngineError:
            # the stream must leave the capture before it can be given back
            with contextlib.suppress(EngineError):
                self._cuda.end_capture(self._stream)
            raise
        return self._cuda.end_capture(self._stream)

    def _hold(self, name: str, shape: tuple[int, ...], kind: Any, trt: Any) -> None:
        """Make the host's and the device's buffer of one input or output."""
        if any(size < 0 for size in shape):
            raise EngineError(f"{self._what} has a free axis in {name} {shape}: build it again")
        dtype = np.dtype(trt.nptype(kind))
        self._host[name], address = self._cuda.host(shape, dtype)
        self._locked.append(address)
        self._host[name][...] = 0
        self.shapes[name] = shape
        self._device[name] = self._cuda.allocate(self._host[name].nbytes)
        self._addresses.append(self._device[name])
        if not self._context.set_tensor_address(name, self._device[name]):
            raise EngineError(f"TensorRT refuses the memory of {name} in {self._what}: build it again")

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Return every output by name; the inputs have the engine's shapes.

        Raises:
            EngineError: an input is missing or has another shape, TensorRT fails, or the engine is closed.
        """
        self._fill(inputs)
        if self._graph is None:
            self._queue()
        else:
            self._cuda.launch(self._graph, self._stream)
        self._cuda.wait(self._stream)
        return self._outputs()

    def run_split(self, inputs: Mapping[str, np.ndarray]) -> tuple[Arrays, dict[str, float]]:
        """Return what `run` does, and the milliseconds of `h2d`, `enqueue`, `compute` and `d2h`.

        Queued call by call, the stream waited for between them, since a graph is one piece; their sum is therefore
        a little more than a run takes.
        """
        self._fill(inputs)
        moments = [perf_counter()]
        self._upload()
        self._cuda.wait(self._stream)
        moments.append(perf_counter())
        self._execute()
        queued = perf_counter()
        self._cuda.wait(self._stream)
        moments.append(perf_counter())
        self._download()
        self._cuda.wait(self._stream)
        moments.append(perf_counter())
        h2d, compute, d2h = ((end - start) * 1e3 for start, end in pairwise(moments))
        return self._outputs(), {"h2d": h2d, "enqueue": (queued - moments[1]) * 1e3, "compute": compute, "d2h": d2h}

    def _fill(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Copy the inputs into page-locked memory."""
        if self._stream is None:
            raise EngineError(f"{self._what} is closed: open the bundle again")
        for name in self._inputs:
            given = inputs.get(name)
            if given is None or given.shape != self.shapes[name]:
                found = "missing" if given is None else str(given.shape)
                raise EngineError(f"{self._what} takes {name} {self.shapes[name]}, it is {found}: build that size too")
            self._host[name][...] = given

    def _outputs(self) -> Arrays:
        return {name: array.copy() for name, array in self._host.items() if name not in self._inputs}

    def _queue(self) -> None:
        """Queue copies in, the execution, and copies out."""
        self._upload()
        self._execute()
        self._download()

    def _upload(self) -> None:
        for name in self._inputs:
            self._cuda.upload(self._device[name], self._address(name), self._host[name].nbytes, self._stream)

    def _execute(self) -> None:
        if not self._context.execute_async_v3(int(self._stream)):
            raise EngineError(f"TensorRT cannot run {self._what} ({first_error(self._heard.lines)})")

    def _download(self) -> None:
        for name in self.shapes.keys() - set(self._inputs):
            self._cuda.download(self._address(name), self._device[name], self._host[name].nbytes, self._stream)

    def _address(self, name: str) -> int:
        return self._host[name].ctypes.data

    def refit(self, weights: Mapping[str, np.ndarray]) -> None:
        """Exchange weights that the engine was built to exchange; nothing is built again.

        Raises:
            EngineError: weights that are not among them, or TensorRT refuses; the engine is then closed.
        """
        refitter = self._trt.Refitter(self._engine, self._heard)
        # TensorRT reads them when it refits: they must live until then
        held = {name: np.ascontiguousarray(array) for name, array in weights.items()}
        taken = all(refitter.set_named_weights(name, self._trt.Weights(array)) for name, array in held.items())
        if not taken or not refitter.refit_cuda_engine():
            self.close()
            raise EngineError(f"TensorRT cannot exchange weights of {self._what} ({first_error(self._heard.lines)})")
        if self._graph is not None:
            self._cuda.call("cudaGraphExecDestroy", self._graph)
            self._graph = None
            self._graph = self._recorded()

    def close(self) -> None:
        """Give everything back to the GPU; safe to call again."""
        if self._stream is None:
            return
        stream, self._stream = self._stream, None
        # TensorRT's own memory first, while the stream it may still use is there
        self._context = self._engine = self._runtime = None
        if self._graph is not None:
            self._cuda.call("cudaGraphExecDestroy", self._graph)
            self._graph = None
        for address in self._addresses:
            self._cuda.call("cudaFree", address)
        self._host = {}
        for address in self._locked:
            self._cuda.call("cudaFreeHost", address)
        self._cuda.call("cudaStreamDestroy", stream)


def names(plan: Plan) -> str:
    """Return what a plan is called in a sentence."""
    return f"the {plan.part} engine for batch {plan.key.batch}"
