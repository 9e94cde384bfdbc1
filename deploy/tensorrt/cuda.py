"""The few calls of the CUDA runtime that an engine needs, each checked: device, memory, one stream, one graph."""

import ctypes
import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import EngineError
from .library import CUDA_INSTALL

# the driver is older than the bindings, there is no GPU, or there is no driver at all
_ABSENT = ("cudaErrorInsufficientDriver", "cudaErrorNoDevice", "cudaErrorStubLibrary")


@dataclass(frozen=True)
class Device:
    """The first GPU: its name, compute capability as 87 for 8.7, memory in bytes, and whether the CPU shares it."""

    name: str
    capability: int
    memory: int
    shared: bool

    @property
    def slug(self) -> str:
        """A name for files."""
        return "-".join("".join(c if c.isalnum() else " " for c in self.name.lower()).split()) + f"-sm{self.capability}"


class Cuda:
    """CUDA's runtime, `cuda.bindings.runtime` or one like it."""

    def __init__(self, runtime: Any = None) -> None:
        """Take a runtime, by default the installed one.

        Raises:
            EngineError: cuda-bindings is not installed.
        """
        self._runtime: Any = runtime if runtime is not None else _installed()

    def call(self, name: str, *given: Any) -> Any:
        """Call a function; return its value, its values, or None.

        Raises:
            EngineError: CUDA reports an error, in its own words.
        """
        error, *values = getattr(self._runtime, name)(*given)
        if int(error):
            raise EngineError(self._sentence(name, error))
        return values[0] if len(values) == 1 else tuple(values) or None

    def device(self) -> Device:
        """Return what the first GPU is."""
        found = self.call("cudaGetDeviceProperties", 0)
        name = found.name.decode(errors="replace").split("\0")[0]
        return Device(name, found.major * 10 + found.minor, int(found.totalGlobalMem), bool(found.integrated))

    def free(self) -> int:
        """Return how many bytes of the GPU's memory are free."""
        return int(self.call("cudaMemGetInfo")[0])

    def stream(self) -> Any:
        """Return a new stream that waits for no other."""
        return self.call("cudaStreamCreateWithFlags", self._runtime.cudaStreamNonBlocking)

    def allocate(self, size: int) -> int:
        """Return the address of `size` bytes on the GPU."""
        return int(self.call("cudaMalloc", max(size, 1)))

    def host(self, shape: tuple[int, ...], dtype: np.dtype) -> tuple[np.ndarray, int]:
        """Return page-locked memory as an array, which copies and graphs can reach, and its address."""
        size = int(np.prod(shape)) * dtype.itemsize
        address = int(self.call("cudaHostAlloc", max(size, 1), self._runtime.cudaHostAllocDefault))
        raw = (ctypes.c_uint8 * max(size, 1)).from_address(address)
        return np.ctypeslib.as_array(raw)[:size].view(dtype).reshape(shape), address

    def upload(self, to: int, source: int, size: int, stream: Any) -> None:
        """Queue a copy to the GPU."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self.call("cudaMemcpyAsync", to, source, size, kind, stream)

    def download(self, to: int, source: int, size: int, stream: Any) -> None:
        """Queue a copy from the GPU."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self.call("cudaMemcpyAsync", to, source, size, kind, stream)

    def wait(self, stream: Any) -> None:
        """Return when all that was queued has been done."""
        self.call("cudaStreamSynchronize", stream)

    def begin_capture(self, stream: Any) -> None:
        """Record what is queued from here on instead of doing it; other threads may go on with theirs."""
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.call("cudaStreamBeginCapture", stream, mode)

    def end_capture(self, stream: Any) -> Any:
        """Return what was recorded, ready to be launched."""
        graph = self.call("cudaStreamEndCapture", stream)
        ready = self.call("cudaGraphInstantiate", graph, 0)
        self.call("cudaGraphDestroy", graph)
        return ready

    def launch(self, graph: Any, stream: Any) -> None:
        """Queue what was recorded."""
        self.call("cudaGraphLaunch", graph, stream)

    def _sentence(self, name: str, error: Any) -> str:
        kind = getattr(error, "name", str(error))
        if kind == "cudaErrorMemoryAllocation":
            return "the GPU has no memory left: close other programs, or build for a smaller --batch"
        if kind in _ABSENT:
            return (
                f"CUDA finds no GPU that it can use ({kind}): `vlseg doctor` says what is here; where the driver is "
                'of CUDA 12, pip install "cuda-bindings<13"'
            )
        words = self._runtime.cudaGetErrorString(error)[1]
        return f"CUDA failed in {name} ({kind}: {words.decode() if isinstance(words, bytes) else words})"


def _installed() -> Any:
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ModuleNotFoundError as error:
        raise EngineError(CUDA_INSTALL) from error
