"""TensorRT-RTX as ONNX Runtime's execution provider: RTX cards from Ampere on, without an installation of TensorRT.

A bundle that was exported with `--target tensorrt-rtx` brings built engines; of any other, the card compiles the ONNX.
"""

import importlib.metadata
from pathlib import Path
from typing import Any

from .. import rtx
from ..errors import EngineError
from ..facts import gpus
from ..rtx_plans import context_of
from . import ort
from .protocol import Engine, Kind, Part

NAME = "tensorrt-rtx"
PROVIDER = "NvTensorRTRTXExecutionProvider"
LEAST = 80
BINDINGS = "tensorrt_rtx_cu13_bindings"


class RtxRuntime(ort.OnnxRuntime):
    """One file on the first RTX card; a node that the provider does not take is an error, never the CPU's."""

    swaps = False

    def __init__(self, path: Path | str, threads: int | None = None):
        super().__init__(path, threads, name=NAME)

    def _open(self, providers: list[Any], wanted: list[str], threads: int | None) -> Any:
        library = self._library
        try:
            made = ort.options(library, threads)
            made.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            made.add_provider_for_devices(_devices(library)[:1], {})
            return library.InferenceSession(self._path, made)
        except (*ort.failures(library), ValueError, RuntimeError) as error:
            if isinstance(error, EngineError):
                raise
            raise EngineError(f"{NAME} cannot open {self._path}: {ort.first_line(error)}") from error


def _devices(library: Any) -> list[Any]:
    """Return the provider's devices, the provider registered at the first call.

    Raises:
        EngineError: it finds none.
    """
    found = [device for device in library.get_ep_devices() if device.ep_name == PROVIDER]
    if not found:
        import onnxruntime_ep_nv_tensorrt_rtx as wheel  # pyright: ignore[reportMissingImports]

        library.register_execution_provider_library(PROVIDER, wheel.get_library_path())
        found = [device for device in library.get_ep_devices() if device.ep_name == PROVIDER]
    if not found:
        raise EngineError(f"{NAME} finds no RTX card that its driver gives: `vlseg doctor` says what is here")
    return found


def _open(part: Part) -> Engine:
    if lacks := _missing():
        raise EngineError(lacks)
    version = importlib.metadata.version(BINDINGS)
    built = context_of(part.folder, part.manifest, part.name, capability(), version)
    return RtxRuntime(built or part.path, part.threads)


def capability() -> int:
    """Return the compute capability of the first GPU, 86 for 8.6; 0 where none answers."""
    cards = gpus()
    cap = str(cards[0]["compute_cap"] or "0.0") if cards else "0.0"
    return int(cap.replace(".", ""))


def _missing() -> str | None:
    if lacks := ort.missing() or rtx.missing():
        return lacks
    if not gpus():
        return "TensorRT-RTX runs on an RTX card, and no NVIDIA GPU answers here: use --engine onnxruntime"
    if capability() < LEAST:
        return f"TensorRT-RTX runs on Ampere and later, this GPU is sm_{capability()}: use --engine onnxruntime-cuda"
    if not hasattr(ort.onnxruntime(), "register_execution_provider_library"):
        return 'the installed ONNX Runtime takes no providers from outside: pip install --upgrade "onnxruntime>=1.24"'
    return None


KIND = Kind(NAME, _open, _missing)
