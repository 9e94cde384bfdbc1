"""TensorRT's Python module, 10.3 to 11.x: found, checked, and asked for nothing that one of these versions lacks.

`tests/deploy/tensorrt/api.json` lists the names of six versions; a test lets a whole build run against each.
"""

import importlib
import importlib.util
import re
from types import ModuleType
from typing import Any

from ..errors import EngineError

OLDEST, FIRST_UNKNOWN = (10, 3), (12,)
INSTALL = (
    "TensorRT is not installed: on a Jetson it comes with JetPack (make the environment with --system-site-packages); "
    'elsewhere pip install tensorrt, and pip install "vlseg[tensorrt]" for its memory'
)
CUDA_INSTALL = (
    'TensorRT\'s memory needs cuda-bindings, which is not installed: pip install "vlseg[tensorrt]" '
    '(with CUDA 12, as on JetPack 6, "cuda-bindings<13")'
)
_AOT = (10, 9)
# newest opset that the parser of a version reads; Attention of opset 23 needs 10.14
_OPSETS = (((10, 9), 20), ((10, 14), 22), ((99,), 24))


def missing() -> str | None:
    """Return what to install, or None where TensorRT's module and CUDA's are there; neither is imported."""
    for name, way_out in (("tensorrt", INSTALL), ("cuda.bindings", CUDA_INSTALL)):
        if not _there(name):
            return way_out
    return None


def load() -> Any:
    """Return the module `tensorrt`.

    Raises:
        EngineError: it is absent, its libraries do not load, or its version is none of 10.3 to 11.x.
    """
    if not _there("tensorrt"):
        raise EngineError(INSTALL)
    try:
        trt = importlib.import_module("tensorrt")
    except (ImportError, OSError) as error:
        raise EngineError(f"TensorRT does not load ({error}): `vlseg doctor` says what is here") from error
    return check(trt)


def check(trt: ModuleType) -> ModuleType:
    """Return the module if its version is one that this package knows, or refuse it."""
    if not hasattr(trt, "Builder"):
        raise EngineError(f"the module tensorrt at {trt.__file__} has no Builder: remove it, and install TensorRT")
    found = version_of(trt)
    if found < OLDEST:
        raise EngineError(
            f"TensorRT {trt.__version__} is too old, expected 10.3 or later: update it (JetPack 6 has 10.3)"
        )
    if found >= FIRST_UNKNOWN:
        raise EngineError(f"TensorRT {trt.__version__} is newer than this vlseg knows (10.3 to 11.x): update vlseg")
    return trt


def version_of(trt: ModuleType) -> tuple[int, ...]:
    """Return the numbers of the version."""
    return tuple(int(number) for number in re.findall(r"\d+", trt.__version__))


def has_plugins(version: tuple[int, ...]) -> bool:
    """Does this version take ahead-of-time plugins from Python?"""
    return version >= _AOT


def newest_opset(version: tuple[int, ...]) -> int:
    """Return the newest ONNX opset that this version's parser reads in full."""
    return next(opset for below, opset in _OPSETS if version < below)


def _there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ValueError, ModuleNotFoundError):  # blocked by a test, or its parent package is absent
        return False
