"""The operators' kernels inside a bundle: PTX for each architecture, and what an engine must know to launch them.

`ptx/kernels.json` lists every kernel with its file, entry, arguments, constants and grid; `deploy/tensorrt/plugins.py`
reads it on the device, where neither Triton nor torch is needed.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import shape_inference

from ..deploy.errors import UserError
from ..deploy.files import atomic_write
from ..kernels.compile import compile_variant, default_ptx_version, facts, strip_hidden
from ..kernels.node_variants import Launch, launch_of
from ..kernels.nodes import DOMAIN, parse
from ..kernels.variants import ARCHITECTURES

FOLDER, INDEX = "ptx", "kernels.json"
AXES = {"batch": 1, "length": 77}
"""What a plugin is tuned for: one image, and the length that the text has in a TensorRT engine."""

_DTYPES: dict[int, str] = {onnx.TensorProto.FLOAT: "fp32", onnx.TensorProto.FLOAT16: "fp16"}
_DEBUG = re.compile(r"^\s*(?:\.loc\b.*|\.file\b.*|\.section\s+\.debug_\w+\s*\{[^}]*\}|//.*)\n", re.MULTILINE)
Progress = Callable[[str], None]


def pack_ptx(
    folder: Path, files: Sequence[str], architectures: Sequence[int] = (), tell: Progress | None = None
) -> list[dict[str, Any]]:
    """Compile the kernel of every node in the ONNX `files` of a bundle and write them to `folder`/ptx.

    Args:
        folder: a bundle that is being written.
        files: names of ONNX files in it.
        architectures: compute capabilities such as 87; none: all.
        tell: told each architecture before it is compiled.

    Returns:
        The rows of `ptx/kernels.json`; none, and no folder, where no node has a kernel.

    Raises:
        UserError: an architecture that the kernels are not held to.
    """
    check_architectures(architectures)
    launches = list(_distinct(launch for name in files for launch in launches_of(onnx.load(folder / name))))
    rows = []
    for arch in (architectures or ARCHITECTURES) if launches else ():
        if tell:
            tell(f"compiling {len(launches)} kernels for sm_{arch}")
        rows += [row for name, dtype, launch in launches for row in _write(folder, arch, name, dtype, launch)]
    if rows:
        atomic_write(folder / FOLDER / INDEX, json.dumps(rows, indent=1) + "\n")
    return rows


def check_architectures(architectures: Sequence[int]) -> None:
    """Refuse a compute capability that the kernels are not held to."""
    if unknown := [arch for arch in architectures if arch not in ARCHITECTURES]:
        raise UserError(f"no kernels for sm_{unknown[0]}; known: {', '.join(map(str, ARCHITECTURES))}")


def without_debug(ptx: str) -> str:
    """Return PTX without the lines that only a debugger reads: they hold the paths of the machine that compiled it."""
    return _DEBUG.sub("", ptx)


def launches_of(model: onnx.ModelProto) -> Iterator[tuple[str, str, Launch]]:
    """Yield name, dtype and launch of every node of the domain that has a kernel, at batch 1."""
    shapes, kinds = _shapes(model)
    for node in model.graph.node:
        if node.domain == DOMAIN and all(name in shapes for name in node.input):
            known = parse(node.op_type)
            sizes = {role: shapes[name] for role, name in zip(known.inputs, node.input, strict=True)}
            dtype, *others = {_DTYPES.get(kinds[name], "") for name in node.input}
            if not others and (launch := launch_of(known, dtype, sizes)):
                yield node.op_type, dtype, launch


def _shapes(model: onnx.ModelProto) -> tuple[dict[str, list[int]], dict[str, int]]:
    """Return shape and dtype of every tensor that has them, with the named axes at `AXES`."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = AXES[dim.dim_param]
    graph = shape_inference.infer_shapes(fixed, data_prop=True).graph
    ends = {value.name: value.type.tensor_type for value in (*graph.value_info, *graph.input)}
    shapes = {name: [dim.dim_value for dim in end.shape.dim] for name, end in ends.items()}
    kinds = {name: end.elem_type for name, end in ends.items()}
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    kinds |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    return {name: shape for name, shape in shapes.items() if all(shape)}, kinds


def _distinct(launches: Iterator[tuple[str, str, Launch]]) -> Iterator[tuple[str, str, Launch]]:
    """Yield each launch once: a model has the same adapter in many layers."""
    seen = set()
    for name, dtype, launch in launches:
        key = (name, dtype, json.dumps(launch.sizes))
        if key not in seen:
            seen.add(key)
            yield name, dtype, launch


def _write(folder: Path, arch: int, name: str, dtype: str, launch: Launch) -> Iterator[dict[str, Any]]:
    """Compile the variants of one launch, write their PTX and yield their rows, the tactics counted from 1."""
    version = default_ptx_version(arch)
    (folder / FOLDER / f"sm_{arch}").mkdir(parents=True, exist_ok=True)
    sizes = "_".join("x".join("n" if n is None else str(n) for n in dims) for dims in launch.sizes.values())
    for tactic, variant in enumerate(launch.variants, start=1):
        compiled = compile_variant(variant, arch, version)
        row = facts(compiled, version)
        row |= {"node": name, "tactic": tactic, "sizes": launch.sizes, "symbols": launch.symbols}
        row |= {"outputs": launch.outputs, "ptx": f"{FOLDER}/sm_{arch}/{name}_{sizes}_{dtype}_{tactic}.ptx"}
        del row["variant"], row["shape"]
        shipped = strip_hidden(compiled.ptx, row["entry"], len(row["arguments"]))
        atomic_write(folder / row["ptx"], without_debug(shipped))
        yield row
