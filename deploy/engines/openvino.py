"""OpenVINO on the CPU: a yardstick, from `pip install "vlseg[openvino]"`."""

import importlib.util
import statistics
from functools import cache
from pathlib import Path
from threading import local
from typing import Any

import numpy as np

from ..errors import EngineError
from .ort import first_line
from .protocol import Arrays, Engine, Kind, Part

INSTALL = 'OpenVINO is not installed: pip install "vlseg[openvino]"'


class OpenVino(Engine):
    """OpenVINO on one file, tuned for latency, every product in float32; a request of its own for each thread.

    Left alone it would compute in bfloat16 wherever the processor can, which an fp32 bundle does not promise.
    """

    name = "openvino"

    def __init__(self, path: Path | str, threads: int | None = None):
        if why := _missing():
            raise EngineError(why)
        self._path = Path(path)
        self._model: Any = _compiled(self._path, threads)
        self._outputs = [output.get_any_name() for output in self._model.outputs]
        self._inputs = {one.get_any_name(): one.get_element_type().to_dtype() for one in self._model.inputs}
        self._requests = local()

    def run(self, inputs: Arrays) -> Arrays:
        """Return every output by name; EngineError where the inputs do not fit the model, or the engine is closed."""
        if self._model is None:
            raise EngineError(f"{self._path.name} is closed: open the bundle again")
        request = getattr(self._requests, "own", None) or self._model.create_infer_request()
        self._requests.own = request
        shapes = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in inputs.items())
        # it would cast another type without a word
        if {name: array.dtype for name, array in inputs.items()} != self._inputs:
            raise EngineError(f"openvino cannot run {self._path.name} on {shapes}: expected {self._inputs}")
        try:
            found = request.infer(inputs, share_inputs=True)
        except RuntimeError as error:
            raise EngineError(f"openvino cannot run {self._path.name} on {shapes}: {first_line(error)}") from error
        return {name: np.array(found[name]) for name in self._outputs}

    def close(self) -> None:
        """Release the model."""
        self._model, self._requests = None, local()


def node_times(path: Path, threads: int | None, inputs: Arrays, repeats: int) -> list[tuple[str, float]]:
    """Return the name of each node as OpenVINO made it, and its median milliseconds over `repeats`.

    By its own counters, in a model of its own. What it fused is told under the name of one of the nodes.
    """
    request = _compiled(path, threads, PERF_COUNT=True).create_infer_request()
    times: dict[str, list[float]] = {}
    for turn in range(repeats + 1):
        request.infer(inputs, share_inputs=True)
        for node in request.profiling_info if turn else ():  # the first run is the warm-up
            times.setdefault(node.node_name, []).append(node.real_time.total_seconds() * 1e3)
    return [(name, statistics.median(series)) for name, series in times.items() if any(series)]


def _compiled(path: Path, threads: int | None, **more: Any) -> Any:
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", **more}
    options |= {"INFERENCE_NUM_THREADS": threads} if threads else {}
    try:
        return _core().compile_model(_core().read_model(inlined(path)), "CPU", options)
    except RuntimeError as error:
        # its last line is the one that says why
        why = str(error).strip().splitlines()[-1]
        raise EngineError(f"openvino cannot open {path}: {why}") from error


def inlined(path: Path) -> str | bytes:
    """Return a file's path, or the model itself with its functions written out, which OpenVINO does not do.

    Raises:
        EngineError: the `onnx` package, which does it, is not installed.
    """
    if b"plugin_namespace" not in path.read_bytes():
        return str(path)
    try:
        from onnx import inliner, load
    except ModuleNotFoundError as error:
        raise EngineError(f"openvino cannot open {path}, which has ONNX functions: pip install onnx") from error
    return inliner.inline_local_functions(load(path)).SerializeToString()


@cache
def _core() -> Any:
    """Return the one of this process: several leave the signal stack of a dead one behind, and Ctrl-C would crash."""
    from openvino import Core

    return Core()


def _missing() -> str | None:
    return None if importlib.util.find_spec("openvino") is not None else INSTALL


def _open(part: Part) -> Engine:
    return OpenVino(part.path, part.threads)


KIND = Kind("openvino", _open, _missing, by_name_only=True)
