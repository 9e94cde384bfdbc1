"""Our kernels as TensorRT's ahead-of-time plugins: PTX from the bundle, no Triton, and no Python once the engine runs.

TensorRT reads the signatures of the functions below, annotations included, so that they are written here as objects
and this file must never postpone the evaluation of annotations.
"""

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, List, Tuple, Union  # noqa: UP035  # the typing module's own, which TensorRT compares with

from ..errors import EngineError
from .kernels import Kernel, evaluate
from .library import has_plugins, version_of

NAMESPACE = "vlseg"
_TYPES = {"fp32": "FLOAT", "fp16": "HALF"}
_SHORT = {"fp32": "FP32", "fp16": "FP16"}
_shelf: dict[str, list[Kernel]] = {}
"""Every kernel by its node: a plugin can be registered once in a process, and serves all bundles from here."""


def register(trt: Any, kernels: Iterable[Kernel]) -> list[str]:
    """Make every node that has kernels a plugin of this process; return the names that are new.

    Raises:
        EngineError: this TensorRT takes no ahead-of-time plugins.
    """
    if not has_plugins(version_of(trt)):
        raise EngineError(f"TensorRT {trt.__version__} takes no ahead-of-time plugins, 10.9 and later do")
    added = []
    for kernel in kernels:
        known = _shelf.setdefault(kernel.node, [])
        if not known:
            added.append(kernel.node)
        # what a later bundle brings comes first
        known.insert(0, kernel)
    for node in added:
        define(trt, node)
    return added


def define(trt: Any, node: str, lazy: bool = False) -> None:
    """Tell TensorRT shape, formats and launch of one node; `lazy` leaves the registry, which a stub lacks, alone."""
    plugin = _plugin_module()
    name = f"{NAMESPACE}::{node}"
    inputs = _shelf[node][0].inputs
    outputs = _shelf[node][0].outputs
    descriptions = Tuple[(plugin.TensorDesc,) * len(outputs)]  # noqa: UP006
    one_or_more = plugin.TensorDesc if len(outputs) == 1 else descriptions

    def shape(*given: Any) -> Any:
        made = tuple(given[inputs.index(like)].like() for like in outputs)
        return made[0] if len(made) == 1 else made

    def formats(*given: Any) -> Any:
        return _formats(trt, plugin, node, given[: len(inputs)], len(outputs))

    def launch(*given: Any) -> Any:
        return _launch(trt, plugin, node, given[: len(inputs)], given[-1])

    made = [("outputs", descriptions)]
    launched = Tuple[Union[str, bytes], Union[str, bytes], plugin.KernelLaunchParams, plugin.SymExprs]  # noqa: UP006, UP007
    plugin.register(name, lazy_register=lazy)(_signed(plugin, shape, inputs, [], one_or_more))
    plugin.autotune(name)(_signed(plugin, formats, inputs, made, List[plugin.AutoTuneCombination]))  # noqa: UP006
    plugin.aot_impl(name)(_signed(plugin, launch, inputs, [*made, ("tactic", int)], launched))


def _plugin_module() -> Any:
    """Return TensorRT's plugin module; what it prints when it is loaded goes to stderr, for stdout may be JSON."""
    if "tensorrt.plugin" in sys.modules:
        return sys.modules["tensorrt.plugin"]
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        return importlib.import_module("tensorrt.plugin")
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


def _signed(plugin: Any, function: Any, inputs: Sequence[str], more: Sequence[tuple[str, Any]], returned: Any) -> Any:
    """Return the function with the signature that TensorRT expects: a description for each input, then what follows."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    named = [*((name, plugin.TensorDesc) for name in inputs), *more]
    parameters = [inspect.Parameter(name, kind, annotation=annotation) for name, annotation in named]
    function.__signature__ = inspect.Signature(parameters, return_annotation=returned)
    return function


def _formats(trt: Any, plugin: Any, node: str, given: Sequence[Any], outputs: int) -> list[Any]:
    """Return the formats that a node takes: packed, in its one type; a tactic for each tile.

    The type alone decides here: TensorRT has let go of the symbolic shapes by the time it asks.
    """
    kernels = _of_type(trt, node, given)
    combination = plugin.AutoTuneCombination()
    combination.pos(list(range(len(given) + outputs)), _SHORT[kernels[0].dtype], "LINEAR")
    combination.tactics(sorted({kernel.tactic for kernel in kernels}))
    return [combination]


def _launch(trt: Any, plugin: Any, node: str, given: Sequence[Any], tactic: int) -> tuple[Any, ...]:
    """Return entry, PTX, launch and integer arguments of a node for inputs of known types and shapes."""
    kernels = _fitting(trt, node, given)
    # tactic 0 is what TensorRT asks with where it did not ask for tactics
    kernel = next((one for one in kernels if one.tactic == tactic), kernels[0])
    sizes = {name: given[kernel.inputs.index(where[0])].shape_expr[where[1]] for name, where in _symbolic(kernel)}
    values = kernel.constants | kernel.symbols | sizes
    x, y, z = (evaluate(text, values, functools.partial(_cdiv, plugin)) for text in kernel.grid)
    launch = plugin.KernelLaunchParams()
    launch.grid_x, launch.grid_y, launch.grid_z = x, y, z
    launch.block_x, launch.shared_mem = kernel.block_x, kernel.shared_bytes
    integers = [plugin.SymInt32(values[name]) for name in kernel.integers]
    arguments = plugin.SymIntExprs.from_tuple(integers) if integers else plugin.SymIntExprs(0)
    return kernel.entry, kernel.ptx, launch, arguments


def _symbolic(kernel: Kernel) -> list[tuple[str, list[Any]]]:
    return [(name, where) for name, where in kernel.symbols.items() if isinstance(where, list)]


def _cdiv(plugin: Any, a: Any, b: Any) -> Any:
    """Return a / b rounded up; TensorRT's own refuses two numbers."""
    return -(-a // b) if isinstance(a, int) and isinstance(b, int) else plugin.cdiv(a, b)


def _of_type(trt: Any, node: str, given: Sequence[Any]) -> list[Kernel]:
    """Return the kernels whose dtype all inputs have.

    Raises:
        ValueError: there are none; the builder reports it, and the engine without plugins is what is left.
    """
    types = {kernel: getattr(trt.DataType, _TYPES[kernel.dtype]) for kernel in _shelf[node]}
    found = [kernel for kernel, wanted in types.items() if all(one.dtype == wanted for one in given)]
    if not found:
        raise ValueError(f"no kernel of {node} for {[str(one.dtype) for one in given]}")
    return found


def _fitting(trt: Any, node: str, given: Sequence[Any]) -> list[Kernel]:
    """Return the kernels for inputs of these types and shapes, one for each tactic.

    Raises:
        ValueError: there are none.
    """
    shapes = dict(zip(_shelf[node][0].inputs, map(_shape, given), strict=True))
    found: dict[int, Kernel] = {}
    for kernel in _of_type(trt, node, given):
        if kernel.fits(shapes):
            found.setdefault(kernel.tactic, kernel)
    if not found:
        raise ValueError(f"no kernel of {node} for {shapes}")
    return list(found.values())


def _shape(description: Any) -> list[int | None]:
    return [dim.constant_value() if dim.is_constant else None for dim in description.shape_expr]
