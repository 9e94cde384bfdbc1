"""Engines: what runs one ONNX part, behind one protocol.

The caller names one, or `auto` chooses by facts, and the engine says which it is.
A further engine is one opener in `ENGINES`.
"""

import importlib.util
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Protocol

import numpy as np

from .errors import EngineError
from .facts import gpus
from .flow import PARTS
from .manifest import Manifest

AUTO = "auto"
Arrays = dict[str, np.ndarray]


class Engine(Protocol):
    """Something that runs one part of a model; safe to call from several threads."""

    @property
    def name(self) -> str:
        """The name under which it was chosen, for tables."""
        ...

    def run(self, inputs: Arrays) -> Arrays:
        """Return every output by name for every input by name."""
        ...

    def close(self) -> None:
        """Give back what it holds; running it afterwards is an error."""
        ...


class OnnxRuntime:
    """ONNX Runtime on one file, on the CPU or on CUDA.

    All graph optimisations, one operator at a time, `threads` threads within an operator (None: ONNX Runtime's
    choice, the physical cores). Threads sleep instead of spinning between operators: a bundle has three sessions
    that take turns, and the spinning workers of one take the cores from the next and from the rest of the device.
    """

    def __init__(self, path: Path | str, threads: int | None = None, providers: list[Any] | None = None):
        self._library = _onnxruntime()
        self._path = Path(path)
        providers = providers or ["CPUExecutionProvider"]
        wanted = [entry if isinstance(entry, str) else entry[0] for entry in providers]
        self.name = "onnxruntime-cuda" if wanted[0] == "CUDAExecutionProvider" else "onnxruntime"
        if absent := [name for name in wanted if name not in self._library.get_available_providers()]:
            raise EngineError(f"the installed ONNX Runtime has no {absent[0]}: `vlseg doctor` says what to install")
        try:
            session = self._library.InferenceSession(
                self._path, _options(self._library, threads), providers=providers, enable_fallback=0
            )
        except (*_failures(self._library), ValueError, RuntimeError) as error:
            raise EngineError(
                f"{self.name} cannot open {path}: {_first_line(error)}; export the bundle again"
            ) from error
        # ONNX Runtime goes on without a provider whose libraries do not load.
        if missing := [name for name in wanted if name not in session.get_providers()]:
            raise EngineError(
                f"{missing[0]} did not start: its libraries were not found; `vlseg doctor` says what is missing"
            )
        self._session: Any = session
        self._outputs = [output.name for output in session.get_outputs()]

    def run(self, inputs: Arrays) -> Arrays:
        """Return every output by name.

        Raises:
            EngineError: the inputs do not fit the model, or the engine is closed.
        """
        if self._session is None:
            raise EngineError(f"{self._path.name} is closed: open the bundle again")
        try:
            return dict(zip(self._outputs, self._session.run(self._outputs, inputs), strict=True))
        except (*_failures(self._library), ValueError) as error:
            shapes = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in inputs.items())
            raise EngineError(f"{self.name} cannot run {self._path.name} on {shapes}: {_first_line(error)}") from error

    def close(self) -> None:
        """Release the session."""
        self._session = None

    def __enter__(self) -> "OnnxRuntime":
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def _open_cpu(path: Path, threads: int | None) -> Engine:
    return OnnxRuntime(path, threads)


def _open_cuda(path: Path, threads: int | None) -> Engine:
    # TF32 would round fp32 products to 10 bits, which an fp32 bundle does not promise.
    return OnnxRuntime(path, threads, [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"])


ENGINES: dict[str, Callable[[Path, int | None], Engine]] = {
    "onnxruntime": _open_cpu,
    "onnxruntime-cuda": _open_cuda,
}


def available_engines() -> list[str]:
    """Return the names of the engines that this machine can run, the preferred one first."""
    if importlib.util.find_spec("onnxruntime") is None:
        return []
    providers = _onnxruntime().get_available_providers()
    cuda = "CUDAExecutionProvider" in providers and bool(gpus())
    return [*(["onnxruntime-cuda"] if cuda else []), "onnxruntime"]


def choose_engine(name: str = AUTO) -> str:
    """Return the engine's name, `auto` being the first of `available_engines`.

    Raises:
        EngineError: an unknown name (the known ones are named), or `auto` where there is none.
    """
    if name in ENGINES:
        return name
    if name != AUTO:
        raise EngineError(f"no engine {name!r}; known: {', '.join([AUTO, *ENGINES])}")
    if not (found := available_engines()):
        raise EngineError(_INSTALL)
    return found[0]


def open_engines(
    folder: Path | str, manifest: Manifest, engine: str = AUTO, threads: int | None = None
) -> dict[str, Engine]:
    """Open every part of a bundle with one engine.

    Raises:
        EngineError: an unknown or absent engine, or a part it cannot open.
    """
    name = choose_engine(engine)
    opened: dict[str, Engine] = {}
    with ExitStack() as undo:
        for part in PARTS:
            if file := manifest.parts[part]:
                opened[part] = ENGINES[name](Path(folder) / file, threads)
                undo.callback(opened[part].close)
        undo.pop_all()
    return opened


_INSTALL = 'ONNX Runtime is not installed: pip install "vlseg[cpu]", or "vlseg[gpu]" on a machine with an NVIDIA GPU'


def _onnxruntime() -> ModuleType:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise EngineError(_INSTALL) from error
    return onnxruntime


def _options(library: ModuleType, threads: int | None) -> Any:
    options = library.SessionOptions()
    options.graph_optimization_level = library.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = library.ExecutionMode.ORT_SEQUENTIAL
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _failures(library: ModuleType) -> tuple[type[BaseException], ...]:
    """Return ONNX Runtime's own exceptions, which share no base class but Exception."""
    state = library.capi.onnxruntime_pybind11_state
    kinds = [value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)]
    return tuple(kinds)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
