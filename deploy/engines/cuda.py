"""ONNX Runtime on CUDA: inputs and outputs bound to device memory, and on wish replayed from a CUDA graph.

Contract-tested on a CPU (binding for real, capture against a stand-in); what only a GPU can show is not verified here.
"""

from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Any

import numpy as np

from ..facts import gpus
from .ort import OnnxRuntime, failures, missing, onnxruntime
from .protocol import Arrays, Engine, Kind, Part

PROVIDER = "CUDAExecutionProvider"
NO_GRAPH = "-1"
"""The graph id with which ONNX Runtime neither captures nor replays."""


class CudaRuntime(OnnxRuntime):
    """ONNX Runtime on one file, on the first NVIDIA GPU; what CUDA has no operator for runs on the CPU."""

    device = "cuda"

    def __init__(self, path: Path | str, threads: int | None = None, name: str = "onnxruntime-cuda", **options: str):
        # TF32 would round fp32 products to 10 bits, which an fp32 bundle does not promise.
        super().__init__(path, threads, self.providers({"use_tf32": "0", **options}), name)

    def providers(self, options: dict[str, str]) -> list[Any]:
        """Return the execution providers in their order."""
        return [(PROVIDER, options), "CPUExecutionProvider"]

    def run(self, inputs: Arrays) -> Arrays:
        """Return every output by name; EngineError where the inputs do not fit the model, or the engine is closed."""
        return self.run_split(inputs)[0]

    def run_split(self, inputs: Arrays) -> tuple[Arrays, dict[str, float]]:
        """Return what `run` does, and the milliseconds of `h2d`, `compute` and `d2h`."""
        session = self._running()
        try:
            return self._bound(session, inputs)
        except (*failures(self._library), ValueError, RuntimeError) as error:
            raise self._cannot_run(inputs, error) from error

    def _bound(self, session: Any, inputs: Arrays) -> tuple[Arrays, dict[str, float]]:
        start, binding = perf_counter(), session.io_binding()
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, self._on_device(array))
        for name in self._outputs:
            binding.bind_output(name, self.device)
        copied = perf_counter()
        session.run_with_iobinding(binding)
        computed = perf_counter()
        out = dict(zip(self._outputs, binding.copy_outputs_to_cpu(), strict=True))
        return out, split(start, copied, computed, perf_counter())

    def _on_device(self, array: Any) -> Any:
        return self._library.OrtValue.ortvalue_from_numpy(array, self.device, 0)


@dataclass
class Captured:
    """One graph: device memory that never moves, and the id under which the session keeps it."""

    inputs: dict[str, Any]
    outputs: dict[str, Any]
    binding: Any
    options: Any


class CudaGraphRuntime(CudaRuntime):
    """The same, captured once for each shape of the inputs and replayed: the host enqueues one graph, not each kernel.

    A part with another free axis than the batch (text of any length) runs without a graph. One run at a time, since a
    graph's memory is its own.
    """

    def __init__(self, path: Path | str, threads: int | None = None):
        super().__init__(path, threads, "onnxruntime-cuda-graph", enable_cuda_graph="1")
        inputs = self._running().get_inputs()
        self.captures = all(isinstance(dim, int) for one in inputs for dim in one.shape[1:])
        self._captured: dict[Any, Captured] = {}
        self._lock = Lock()

    def close(self) -> None:
        """Release the graphs and the session."""
        self._captured.clear()
        super().close()

    def _bound(self, session: Any, inputs: Arrays) -> tuple[Arrays, dict[str, float]]:
        with self._lock:
            key = tuple((name, array.shape, str(array.dtype)) for name, array in sorted(inputs.items()))
            if self.captures and key not in self._captured:
                self._captured[key] = self._capture(session, inputs, str(len(self._captured) + 1))
            return self._replay(session, self._captured[key], inputs) if self.captures else self._eager(session, inputs)

    def _eager(self, session: Any, inputs: Arrays) -> tuple[Arrays, dict[str, float]]:
        start, binding = perf_counter(), session.io_binding()
        given = {name: self._on_device(array) for name, array in inputs.items()}
        self._run_unbound(session, binding, given)
        computed = perf_counter()
        out = dict(zip(self._outputs, binding.copy_outputs_to_cpu(), strict=True))
        return out, split(start, start, computed, perf_counter())

    def _run_unbound(self, session: Any, binding: Any, given: dict[str, Any]) -> None:
        """Run once without a graph; the session chooses where the outputs lie."""
        for name, value in given.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, self.device)
        session.run_with_iobinding(binding, self._options(NO_GRAPH))

    def _capture(self, session: Any, inputs: Arrays, graph: str) -> Captured:
        """Bind memory for these shapes and run until the session has its graph: two runs, the first for the shapes."""
        given = {name: self._on_device(array) for name, array in inputs.items()}
        trial = session.io_binding()
        self._run_unbound(session, trial, given)
        outputs = {
            name: self._on_device(array) for name, array in zip(self._outputs, trial.copy_outputs_to_cpu(), strict=True)
        }
        binding = session.io_binding()
        for name, value in given.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        made = Captured(given, outputs, binding, self._options(graph))
        session.run_with_iobinding(binding, made.options)
        return made

    def _replay(self, session: Any, one: Captured, inputs: Arrays) -> tuple[Arrays, dict[str, float]]:
        start = perf_counter()
        for name, array in inputs.items():
            one.inputs[name].update_inplace(array)
        copied = perf_counter()
        session.run_with_iobinding(one.binding, one.options)
        computed = perf_counter()
        # a copy of our own: the next replay writes over the graph's memory
        out = {name: np.array(value.numpy()) for name, value in one.outputs.items()}
        return out, split(start, copied, computed, perf_counter())

    def _options(self, graph: str) -> Any:
        made = self._library.RunOptions()
        made.add_run_config_entry("gpu_graph_id", graph)
        return made


def split(start: float, copied: float, computed: float, done: float) -> dict[str, float]:
    """Return the milliseconds of `h2d`, `compute` and `d2h` from four moments in seconds."""
    return {"h2d": (copied - start) * 1e3, "compute": (computed - copied) * 1e3, "d2h": (done - computed) * 1e3}


def _missing() -> str | None:
    if lacks := missing():
        return lacks
    if PROVIDER not in onnxruntime().get_available_providers():
        return f'the installed ONNX Runtime has no {PROVIDER}: pip uninstall onnxruntime, pip install "vlseg[gpu]"'
    return None if gpus() else "no NVIDIA GPU answers here: use --engine onnxruntime"


def _open(part: Part) -> Engine:
    return CudaRuntime(part.path, part.threads)


def _open_graph(part: Part) -> Engine:
    return CudaGraphRuntime(part.path, part.threads)


KIND = Kind("onnxruntime-cuda", _open, _missing)
GRAPH = Kind("onnxruntime-cuda-graph", _open_graph, _missing, by_name_only=True)
