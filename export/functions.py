"""What each operator of domain `vlseg` means in ONNX: the function that stands beside its nodes in a graph.

ONNX Runtime, and TensorRT without our plugins, put the function in the node's place, so one file serves every engine.
The functions follow `kernels/reference.py`, for any dtype; layer norms keep their statistics in float32.
"""

from collections.abc import Callable

import onnx
from onnx import NodeProto, helper

from ..kernels.nodes import ATTRIBUTES, DOMAIN, BottleneckNode, ClosedNode, Node, parse

VERSION = 1
_OUTPUT = "y"
_ACTIVATIONS: dict[str, Callable[[str, str], list[NodeProto]]] = {
    "relu": lambda x, y: [helper.make_node("Relu", [x], [y])],
    "gelu": lambda x, y: [helper.make_node("Gelu", [x], [y])],
    "quick-gelu": lambda x, y: [
        helper.make_node("Constant", [], [f"{y}_slope"], value_float=1.702),
        helper.make_node("CastLike", [f"{y}_slope", x], [f"{y}_alike"]),
        helper.make_node("Mul", [x, f"{y}_alike"], [f"{y}_steep"]),
        helper.make_node("Sigmoid", [f"{y}_steep"], [f"{y}_gate"]),
        helper.make_node("Mul", [x, f"{y}_gate"], [y]),
    ],
}


def add_functions(model: onnx.ModelProto) -> list[str]:
    """Give the model the function of every operator of the domain that it uses; return their names, sorted.

    Raises:
        ValueError: a node of the domain that no operator has.
    """
    used = sorted({node.op_type for node in model.graph.node if node.domain == DOMAIN})
    (opset,) = [one.version for one in model.opset_import if not one.domain]
    there = {one.name for one in model.functions if one.domain == DOMAIN}
    model.functions.extend(function_of(parse(name), opset) for name in used if name not in there)
    if used and DOMAIN not in {one.domain for one in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(DOMAIN, VERSION))
    return used


def function_of(node: Node, opset: int) -> onnx.FunctionProto:
    """Return the function of a node, its body in an opset of ONNX."""
    body = _bottleneck(node) if isinstance(node, BottleneckNode) else _closed(node)
    imports = [helper.make_opsetid("", opset)]
    return helper.make_function(DOMAIN, node.name, node.inputs, [_OUTPUT], body, imports, attributes=[*ATTRIBUTES])


def _bottleneck(node: BottleneckNode) -> list[NodeProto]:
    body: list[NodeProto] = []
    if not node.folded:
        body += [] if node.eps is None else [_norm("x", "normed", node.eps)]
        source = "x" if node.eps is None else "normed"
        body.append(helper.make_node("Gemm", [source, "down", "down_bias"], ["hidden"], transB=1))
    hidden, before = _active(node.inner, "hidden")
    update, after = _active(node.outer, "raised")
    body += [*before, helper.make_node("Gemm", [hidden, "up", "up_bias"], ["raised"], transB=1), *after]
    if node.scaled:
        body.append(helper.make_node("Mul", ["scale", update], ["scaled"]))
        update = "scaled"
    if node.residual:
        body.append(helper.make_node("Add", ["residual", "x"], ["stream"]))
    return [*body, helper.make_node("Add", ["stream" if node.residual else "x", update], [_OUTPUT])]


def _active(name: str, x: str) -> tuple[str, list[NodeProto]]:
    """Return the name of x after an activation and the nodes that make it; the identity needs none."""
    return (x, []) if name == "identity" else (f"{x}_active", _ACTIVATIONS[name](x, f"{x}_active"))


def _closed(node: ClosedNode) -> list[NodeProto]:
    return [
        _norm("text", "normed", node.eps),
        *_linear("normed", "value", "values"),
        *_linear("values", "out", "attended"),
        helper.make_node("Mul", ["gamma", "attended"], ["update"]),
        helper.make_node("Add", ["vision", "update"], [_OUTPUT]),
    ]


def _norm(x: str, y: str, eps: int) -> NodeProto:
    return helper.make_node("LayerNormalization", [x, "norm_weight", "norm_bias"], [y], epsilon=float(f"1e-{eps}"))


def _linear(x: str, name: str, y: str) -> list[NodeProto]:
    """Return a linear on the last of three axes, whose weight is (out, in)."""
    return [
        helper.make_node("Transpose", [f"{name}_weight"], [f"{name}_turned"], perm=[1, 0]),
        helper.make_node("MatMul", [x, f"{name}_turned"], [f"{name}_product"]),
        helper.make_node("Add", [f"{name}_product", f"{name}_bias"], [y]),
    ]
