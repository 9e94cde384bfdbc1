"""CUDA's runtime as far as an engine uses it: real memory, a stream that can be recorded, and a count of all."""

import ctypes
import types
from collections.abc import Callable

_NAMES = {
    0: "cudaSuccess",
    2: "cudaErrorMemoryAllocation",
    35: "cudaErrorInsufficientDriver",
    900: "cudaErrorStreamCaptureUnsupported",
}


class Error(int):
    """An error code with the name that cuda-bindings gives it."""

    @property
    def name(self) -> str:
        return _NAMES[self]


class Stream:
    """Does what is queued at once, or records it."""

    def __init__(self):
        self.recording: list[Callable[[], None]] | None = None
        self.alive = True

    def __int__(self):
        return id(self)

    def queue(self, work: Callable[[], None]) -> None:
        assert self.alive, "a stream was used after it was destroyed"
        if self.recording is None:
            work()
        else:
            self.recording.append(work)


class FakeCuda:
    """The module `cuda.bindings.runtime`. `memory` bytes may be allocated; every address is remembered until freed."""

    cudaStreamNonBlocking = 1
    cudaHostAllocDefault = 0
    cudaMemcpyKind = types.SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = types.SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self, name="Orin", capability=(8, 7), memory=8 << 30, absent=False, captures=True):
        self.name, self.capability, self.memory, self.absent, self.captures = name, capability, memory, absent, captures
        self.device: dict[int, ctypes.Array] = {}
        self.host: dict[int, ctypes.Array] = {}
        self.streams: dict[int, Stream] = {}
        self.graphs: list[list] = []
        self.calls: list[str] = []

    def taken(self) -> int:
        return sum(len(block) for block in (*self.device.values(), *self.host.values()))

    def alive(self) -> int:
        """Return how many things were not given back."""
        return len(self.device) + len(self.host) + sum(s.alive for s in self.streams.values()) + len(self.graphs)

    def cudaGetErrorString(self, error):
        return Error(0), b"words of CUDA"

    def cudaGetDeviceProperties(self, index):
        if self.absent:
            return Error(35), None
        major, minor = self.capability
        facts = {"name": self.name.encode() + b"\0\0", "major": major, "minor": minor}
        return Error(0), types.SimpleNamespace(**facts, totalGlobalMem=self.memory, integrated=1)

    def cudaMemGetInfo(self):
        return Error(0), self.memory - self.taken(), self.memory

    def cudaStreamCreateWithFlags(self, flags):
        stream = Stream()
        self.streams[int(stream)] = stream
        return Error(0), stream

    def cudaStreamDestroy(self, stream):
        assert stream.alive
        stream.alive = False
        return (Error(0),)

    def cudaStreamSynchronize(self, stream):
        self.calls.append("wait")
        assert stream.alive and stream.recording is None
        return (Error(0),)

    def _block(self, blocks, size):
        if self.taken() + size > self.memory:
            return Error(2), None
        block = (ctypes.c_uint8 * size)(*[0xA5] * min(size, 64))
        blocks[ctypes.addressof(block)] = block
        return Error(0), ctypes.addressof(block)

    def cudaMalloc(self, size):
        return self._block(self.device, size)

    def cudaHostAlloc(self, size, flags):
        return self._block(self.host, size)

    def cudaFree(self, address):
        del self.device[address]
        return (Error(0),)

    def cudaFreeHost(self, address):
        del self.host[address]
        return (Error(0),)

    def cudaMemcpyAsync(self, to, source, size, kind, stream):
        there, here = (self.device, self.host) if kind == 1 else (self.host, self.device)
        assert to in there and source in here and size <= len(there[to]), "a copy leaves its memory"
        stream.queue(lambda: ctypes.memmove(to, source, size))
        return (Error(0),)

    def cudaStreamBeginCapture(self, stream, mode):
        if not self.captures:
            return (Error(900),)
        stream.recording = []
        return (Error(0),)

    def cudaStreamEndCapture(self, stream):
        recorded, stream.recording = stream.recording, None
        self.graphs.append(recorded)
        return Error(0), recorded

    def cudaGraphInstantiate(self, graph, flags):
        ready = list(graph)
        self.graphs.append(ready)
        return Error(0), ready

    def _gone(self, graph):
        self.graphs[:] = [one for one in self.graphs if one is not graph]
        return (Error(0),)

    cudaGraphDestroy = cudaGraphExecDestroy = _gone

    def cudaGraphLaunch(self, graph, stream):
        self.calls.append("launch")
        assert any(one is graph for one in self.graphs)
        for work in graph:
            stream.queue(work)
        return (Error(0),)
