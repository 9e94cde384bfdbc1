"""ONNX Runtime on CUDA."""

from pathlib import Path

from ..facts import gpus
from .ort import OnnxRuntime, missing, onnxruntime
from .protocol import Engine, Kind, Part

PROVIDER = "CUDAExecutionProvider"


class CudaRuntime(OnnxRuntime):
    """ONNX Runtime on one file, on the first NVIDIA GPU; what CUDA has no operator for runs on the CPU."""

    def __init__(self, path: Path | str, threads: int | None = None):
        # TF32 would round fp32 products to 10 bits, which an fp32 bundle does not promise.
        super().__init__(path, threads, [(PROVIDER, {"use_tf32": "0"}), "CPUExecutionProvider"], "onnxruntime-cuda")


def _open(part: Part) -> Engine:
    return CudaRuntime(part.path, part.threads)


def _missing() -> str | None:
    if lacks := missing():
        return lacks
    if PROVIDER not in onnxruntime().get_available_providers():
        return f'the installed ONNX Runtime has no {PROVIDER}: pip uninstall onnxruntime, pip install "vlseg[gpu]"'
    return None if gpus() else "no NVIDIA GPU answers here: use --engine onnxruntime"


KIND = Kind("onnxruntime-cuda", _open, _missing)
