"""ONNX Runtime on the CPU."""

import importlib.util
import json
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import EngineError
from .protocol import Arrays, Engine, Kind, Part

INSTALL = 'ONNX Runtime is not installed: pip install "vlseg[cpu]", or "vlseg[gpu]" on a machine with an NVIDIA GPU'

# a longer spin brings little on idle cores and costs more on busy ones; to sleep at once costs the small parts a tenth
WAITING = {"session.force_spinning_stop": "1", "session.intra_op.spin_duration_us": "20"}


class OnnxRuntime(Engine):
    """ONNX Runtime on one file, on the CPU or with another execution provider before it.

    All graph optimisations, one operator at a time, `threads` threads within an operator (None: ONNX Runtime's
    choice, the physical cores). Between operators threads spin for 20 microseconds, then sleep, and none spins once
    the call is over: a bundle has three sessions that take turns, and workers that spin on take the cores from the
    next session and from the rest of the device. An ONNX Runtime without `spin_duration_us` spins until the call ends.
    """

    swaps = True

    def __init__(
        self,
        path: Path | str,
        threads: int | None = None,
        providers: list[Any] | None = None,
        name: str = "onnxruntime",
    ):
        self._library = onnxruntime()
        self._path, self.name = Path(path), name
        providers = providers or ["CPUExecutionProvider"]
        wanted = [entry if isinstance(entry, str) else entry[0] for entry in providers]
        if absent := [one for one in wanted if one not in self._library.get_available_providers()]:
            raise EngineError(f"the installed ONNX Runtime has no {absent[0]}: `vlseg doctor` says what to install")
        self._session: Any = self._open(providers, wanted, threads)
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Arrays) -> Arrays:
        """Return every output by name.

        Raises:
            EngineError: the inputs do not fit the model, or the engine is closed.
        """
        session = self._running()
        try:
            return dict(zip(self._outputs, session.run(self._outputs, inputs), strict=True))
        except (*failures(self._library), ValueError) as error:
            raise self._cannot_run(inputs, error) from error

    def close(self) -> None:
        """Release the session."""
        self._session = None

    def _running(self) -> Any:
        """Return the session; EngineError where it was closed."""
        if self._session is None:
            raise EngineError(f"{self._path.name} is closed: open the bundle again")
        return self._session

    def _open(self, providers: list[Any], wanted: list[str], threads: int | None) -> Any:
        try:
            session = self._library.InferenceSession(
                self._path, options(self._library, threads), providers=providers, enable_fallback=0
            )
        except (*failures(self._library), ValueError, RuntimeError) as error:
            raise EngineError(
                f"{self.name} cannot open {self._path}: {first_line(error)}; export the bundle again"
            ) from error
        # ONNX Runtime goes on without a provider whose libraries do not load.
        if missing := [one for one in wanted if one not in session.get_providers()]:
            raise EngineError(
                f"{missing[0]} did not start: its libraries were not found; `vlseg doctor` says what is missing"
            )
        return session

    def _cannot_run(self, inputs: Arrays, error: BaseException) -> EngineError:
        shapes = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in inputs.items())
        return EngineError(f"{self.name} cannot run {self._path.name} on {shapes}: {first_line(error)}")


def onnxruntime() -> ModuleType:
    """Return the library; EngineError with the line that installs it where it is absent."""
    try:
        import onnxruntime as library
    except ModuleNotFoundError as error:
        raise EngineError(INSTALL) from error
    return library


def missing() -> str | None:
    """Return what to install, or None where ONNX Runtime is there."""
    return None if importlib.util.find_spec("onnxruntime") is not None else INSTALL


def options(library: ModuleType, threads: int | None, waiting: Mapping[str, str] = WAITING) -> Any:
    """Return the session options that every execution provider shares; `waiting` is what threads do in between."""
    made = library.SessionOptions()
    made.graph_optimization_level = library.GraphOptimizationLevel.ORT_ENABLE_ALL
    made.execution_mode = library.ExecutionMode.ORT_SEQUENTIAL
    made.inter_op_num_threads = 1
    made.intra_op_num_threads = threads or 0
    made.log_severity_level = 3
    for key, value in waiting.items():
        made.add_session_config_entry(key, value)
    return made


def node_times(path: Path, threads: int | None, inputs: Arrays, repeats: int) -> list[tuple[str, float]]:
    """Return the name of each node of a graph, as ONNX Runtime made it, and its median milliseconds over `repeats`.

    By its own profiler, on the CPU, in a session of its own; the profiler costs each node a little time.
    """
    library = onnxruntime()
    with tempfile.TemporaryDirectory() as scratch:
        made = options(library, threads)
        made.enable_profiling, made.profile_file_prefix = True, str(Path(scratch) / "nodes")
        session = library.InferenceSession(path, made, providers=["CPUExecutionProvider"])
        for _ in range(repeats + 1):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times: dict[str, list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times.setdefault(event["name"].removesuffix("_kernel_time"), []).append(event["dur"] / 1e3)
    # the first run is the warm-up
    return [(name, statistics.median(series[1:])) for name, series in times.items()]


def failures(library: ModuleType) -> tuple[type[BaseException], ...]:
    """Return ONNX Runtime's own exceptions, which share no base class but Exception."""
    state = library.capi.onnxruntime_pybind11_state
    kinds = [value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)]
    return tuple(kinds)


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says."""
    return str(error).strip().splitlines()[0]


def _open_cpu(part: Part) -> Engine:
    return OnnxRuntime(part.path, part.threads)


KIND = Kind("onnxruntime", _open_cpu, missing, at_once=True)
