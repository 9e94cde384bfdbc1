"""TensorRT-RTX: real engines for RTX cards from ONNX, built on any x86 machine with Linux, with a GPU or without.

The two wheels of the extra `rtx` are enough. The parser and the compiler need no GPU; only running an engine does.
"""

import ctypes
import importlib
import importlib.util
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import EngineError, UserError

ARCHITECTURES = (75, 80, 86, 89, 120)
"""Compute capabilities that one engine is built for: Turing, Ampere twice, Ada, Blackwell."""

LEAST = {"fp8": 89}
"""First compute capability that has a precision, where not all have."""

SIZES = {"batch": (1, 1, 8), "length": (2, 16, 77)}
"""Least, usual and largest size of each named axis."""

INSTALL = 'TensorRT-RTX is not installed: on Linux with an x86 processor, pip install "vlseg[rtx]"'
TURING = "no product of float32 matrices on sm_75"
_PROVIDER, _BINDINGS = "onnxruntime_ep_nv_tensorrt_rtx", "tensorrt_rtx_bindings"
_LIBRARIES = ("libtensorrt_rtx.so.*.*", "libtensorrt_onnxparser_rtx.so.*.*")
# what the compiler says where a graph holds a float32 product and sm_75 is asked for
_NO_TURING = "check_turing_op_compatibility"


@dataclass(frozen=True)
class Plan:
    """A built engine.

    Attributes:
        data: what the runtime loads.
        architectures: the compute capabilities it was built for, 86 for 8.6.
        left_out: those it could not be built for, with the reason.
        layers: of the network before it was compiled.
        seconds: that parsing and building took.
    """

    data: bytes
    architectures: tuple[int, ...]
    left_out: dict[int, str] = field(default_factory=dict)
    layers: int = 0
    seconds: float = 0.0


def missing() -> str | None:
    """Return what to install, or None where both wheels are there; nothing is imported."""
    try:
        there = all(importlib.util.find_spec(name) for name in (_PROVIDER, _BINDINGS))
    except ValueError:  # a module that a test blocked has no spec
        there = False
    return None if there else INSTALL


def load() -> ModuleType:
    """Return TensorRT-RTX's bindings, its libraries loaded before them.

    Raises:
        EngineError: a wheel is absent, its libraries do not load, or the two are of different versions.
    """
    if lacks := missing():
        raise EngineError(lacks)
    folder = provider_folder()
    try:
        for pattern in _LIBRARIES:
            ctypes.CDLL(str(_library(folder, pattern)), mode=ctypes.RTLD_GLOBAL)
        bindings = importlib.import_module(_BINDINGS)
    except (OSError, ImportError) as error:
        raise EngineError(
            f'TensorRT-RTX does not load ({error}): pip install --force-reinstall "vlseg[rtx]" on Linux with glibc 2.28'
        ) from error
    found = _library(folder, _LIBRARIES[0]).name.partition(".so.")[2]
    if not bindings.__version__.startswith(found):
        raise EngineError(
            f'TensorRT-RTX has libraries of {found} and bindings of {bindings.__version__}: pip install "vlseg[rtx]"'
        )
    return bindings


def provider_folder() -> Path:
    """Return the folder of the wheel that brings the libraries."""
    spec = importlib.util.find_spec(_PROVIDER)
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def check_architectures(asked: Sequence[int], precision: str = "fp16") -> tuple[int, ...]:
    """Return the compute capabilities without repetition, none meaning all; UserError where one cannot be built for."""
    least = LEAST.get(precision, 0)
    if unknown := [arch for arch in asked if arch not in ARCHITECTURES]:
        known = ", ".join(map(str, ARCHITECTURES))
        raise UserError(
            f"TensorRT-RTX builds nothing for sm_{unknown[0]}: choose from {known}; Jetson and data-centre GPUs "
            "build their engines themselves (`vlseg build`)"
        )
    if early := [arch for arch in asked if arch < least]:
        raise UserError(f"sm_{early[0]} has no {precision}, which starts with sm_{least}: export with --precision fp16")
    return tuple(sorted(set(asked))) or tuple(arch for arch in ARCHITECTURES if arch >= least)


def build(path: Path, dims: dict[str, list[int | str]], architectures: Sequence[int] = ARCHITECTURES) -> Plan:
    """Return the engine of an ONNX file whose inputs have these dims, a named one being free within `SIZES`.

    Where float32 products keep sm_75 out, the engine is built for the others, and says so.

    Raises:
        EngineError: no TensorRT-RTX, or it cannot parse or build the file; the first error names the node.
    """
    start, asked = time.perf_counter(), check_architectures(architectures)
    trt = load()
    try:
        data, layers = _build(trt, path, dims, asked)
        kept, left_out = asked, {}
    except EngineError as error:
        kept = tuple(arch for arch in asked if arch != 75)
        if _NO_TURING not in str(error) or not kept:
            raise
        data, layers = _build(trt, path, dims, kept)
        left_out = {75: TURING}
    return Plan(data, kept, left_out, layers, time.perf_counter() - start)


def _build(trt: Any, path: Path, dims: dict[str, list[int | str]], architectures: Sequence[int]) -> tuple[bytes, int]:
    heard = _ear(trt)
    builder = trt.Builder(heard)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, heard)
    if not parser.parse_from_file(str(path)):
        raise EngineError(f"TensorRT-RTX cannot read {path.name}: {_parser_error(parser)}")
    config = builder.create_builder_config()
    config.num_compute_capabilities = len(architectures)
    for i, arch in enumerate(architectures):
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{arch}"), i)
    config.add_optimization_profile(_profile(builder, network, dims))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        said = heard.errors[0] if heard.errors else "it gave no reason"
        raise EngineError(f"TensorRT-RTX cannot build {path.name} for {_names(architectures)}: {said}")
    return bytes(plan), network.num_layers


def _profile(builder: Any, network: Any, dims: dict[str, list[int | str]]) -> Any:
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        name = network.get_input(i).name
        shapes = [[SIZES[dim][k] if isinstance(dim, str) else dim for dim in dims[name]] for k in range(3)]
        profile.set_shape(name, *shapes)
    return profile


def _ear(trt: Any) -> Any:
    """Return a logger that keeps errors, the only way in which the builder says what went wrong."""

    class Ear(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.errors.append(re.sub(r"\s+", " ", message))

    return Ear()


def _parser_error(parser: Any) -> str:
    if not parser.num_errors:
        return "no error was given; check the file with onnx.checker"
    first = parser.get_error(0)
    return f"{first.desc()} (node {first.node_name() or '-'}, operator {first.node_operator() or '-'})"


def _names(architectures: Sequence[int]) -> str:
    return ", ".join(f"sm_{arch}" for arch in architectures)


def _library(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise EngineError(f'{folder} holds no {pattern}: pip install --force-reinstall "vlseg[rtx]"')
    return found[-1]
