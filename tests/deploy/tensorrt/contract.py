"""Run inside the real bindings of one TensorRT: our plugins as its builder would use them, up to the launch.

`python contract.py BUNDLE CAPABILITY` prints one JSON line for each kernel. TensorRT's C++ objects do nothing in the
stub libraries, so that the symbolic sizes and the descriptions that C++ would hand in are plain ones here; all Python
of TensorRT's plugin layer is its own.
"""

import json
import operator
import re
import sys
import types
from pathlib import Path

import tensorrt as trt


class Size:
    """A symbolic size that is known, as those of a static network are."""

    def __init__(self, value):
        self.value = int(value)

    def is_constant(self):
        return True

    def is_size_tensor(self):
        return False

    def get_constant_value(self):
        return self.value


class Expressions:
    """The builder's arithmetic on sizes."""

    def constant(self, value):
        return Size(value)

    def operation(self, kind, a, b):
        kinds = trt.DimensionOperation
        known = {
            kinds.SUM: operator.add,
            kinds.PROD: operator.mul,
            kinds.CEIL_DIV: lambda x, y: -(-x // y),
        }
        return Size(known[kind](a.value, b.value))


class Sizes(list):
    """A shape of symbolic sizes."""

    def __init__(self, length):
        super().__init__([None] * length)


class Described:
    """What C++ says of an input or output: type, format, shape."""

    def __init__(self, kind, shape):
        inner = types.SimpleNamespace(type=kind, format=trt.TensorFormat.LINEAR, dims=tuple(shape), scale=0.0)
        self.desc, self.min, self.max, self.opt = inner, shape, shape, shape
        self.type, self.format = kind, inner.format


class Argument:
    """An integer argument of a kernel."""


# what the plugin layer checks by type and C++ would hand in
trt.IDimensionExpr, trt.DimsExprs, trt.DynamicPluginTensorDesc, trt.ISymExpr = Size, Sizes, Described, Argument

import contract_sizes  # noqa: E402  # beside this file

from vlseg.deploy.manifest import Manifest  # noqa: E402
from vlseg.deploy.tensorrt import plugins  # noqa: E402
from vlseg.deploy.tensorrt.kernels import read_kernels  # noqa: E402

TYPES = {"fp32": trt.DataType.FLOAT, "fp16": trt.DataType.HALF}


def shapes_of(kernel) -> list[list[int]]:
    """Return a shape for each input: what the kernel fixes, and for the rest what an engine could have."""
    if "up" in kernel.sizes:
        known = contract_sizes.bottleneck(*kernel.sizes["up"])
    else:
        _, tokens, width = kernel.sizes["vision"]
        known = contract_sizes.closed(width, tokens, kernel.sizes["value_weight"][0])
    return [list(known[name]) for name in kernel.inputs]


def build(kernel) -> dict:
    """Go through a plugin's life in the builder for one kernel's types and shapes, and return what was launched."""
    from tensorrt.plugin import _lib

    creator = _lib._TemplatePluginCreator.__new__(_lib._TemplatePluginCreator)
    asked = trt.QuickPluginCreationRequest.STRICT_AOT
    plugin = creator.create_plugin(kernel.node, plugins.NAMESPACE, [], trt.TensorRTPhase.BUILD, asked)
    kind, shapes, count = TYPES[kernel.dtype], shapes_of(kernel), len(kernel.inputs)
    assert plugin.get_output_data_types([kind] * count, [len(shape) for shape in shapes]) == [kind]
    symbolic = [[Size(size) for size in shape] for shape in shapes]
    (output,) = plugin.get_output_shapes(symbolic, [], Expressions())
    result = [size.value for size in output]
    ends = [Described(kind, shape) for shape in (*shapes, result)]
    supported = plugin.get_supported_format_combinations(ends, count)
    assert len(supported) == count + 1 and {one.type for one in supported} == {kind}
    plugin.configure_plugin(ends[:count], ends[count:])
    tactics = plugin.get_valid_tactics()
    plugin.set_tactic(kernel.tactic)
    launch, integers = types.SimpleNamespace(), types.SimpleNamespace(found=[])

    class Setter:
        def __setattr__(self, name, value):
            setattr(integers, name, value)

        def __setitem__(self, index, value):
            integers.found.append(value.expr.value)

    plugin.get_launch_params(symbolic, ends, count, launch, Setter(), Expressions())
    entry, ptx = plugin.get_kernel([one.desc for one in ends[:count]], [one.desc for one in ends[count:]])
    text = ptx.decode()
    head = text[text.index(f".visible .entry {entry}(") : text.index("\n)")]
    return {
        "version": trt.__version__, "node": kernel.node, "tactic": kernel.tactic, "tactics": sorted(tactics),
        "output": result, "first": shapes[0], "attributes": len(plugin.attrs),
        "grid": [launch.grid_x.expr.value, launch.grid_y.expr.value, launch.grid_z.expr.value],
        "block": [launch.block_x.expr.value, launch.block_y.expr.value, launch.block_z.expr.value],
        "shared": launch.shared_mem.expr.value, "integers": integers.found,
        "parameters": len(re.findall(r"\.param", head)), "expected": count + len(integers.found) + 1,
        "threads": int(re.search(r"\.reqntid (\d+)", text)[1]), "ptx": text == kernel.ptx,
        "constants": kernel.constants,
    }  # fmt: skip


def main() -> None:
    folder, capability = Path(sys.argv[1]), int(sys.argv[2])
    kernels = read_kernels(folder, Manifest.load(folder), capability)
    for kernel in kernels:
        plugins._shelf.setdefault(kernel.node, []).append(kernel)
    for node in plugins._shelf:
        plugins.define(trt, node, lazy=True)
    for kernel in kernels:
        print(json.dumps(build(kernel)))


main()
