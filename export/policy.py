"""What a graph must be so that ONNX Runtime and every TensorRT can read it."""

from collections import Counter

import onnx

from ..deploy.errors import UserError
from ..kernels.nodes import DOMAIN

IR_VERSION = 10
"""The newest that onnxruntime 1.23 opens, which is the newest for JetPack 6's Python 3.10."""

FORBIDDEN = {
    "If": "TensorRT builds both branches or none",
    "Loop": "TensorRT runs it one step at a time",
    "Scan": "TensorRT runs it one step at a time",
    "NonZero": "its output has no shape that TensorRT could plan for",
}


def check(model: onnx.ModelProto, axes: dict[str, dict[int, str]]) -> None:
    """Refuse a graph that breaks the policy.

    `axes` maps every input and output to the names of its dynamic axes by position; all others must be fixed.

    Raises:
        UserError: what is wrong, in one sentence.
    """
    onnx.checker.check_model(model, full_check=True)
    faults = [*_version_faults(model), *_axis_faults(model, axes), *_operator_faults(model)]
    if faults:
        raise UserError(
            f"the exported graph cannot be shipped ({'; '.join(faults)}): "
            f"export with torch 2.13, which this was made for"
        )


def operators(model: onnx.ModelProto) -> Counter[str]:
    """Return how often each operator occurs, by `domain::name` outside of ONNX's own domain.

    What the functions of our own domain consist of is counted in their place.
    """
    bodies = {function.name: function.node for function in model.functions if function.domain == DOMAIN}
    found: Counter[str] = Counter()
    for node in model.graph.node:
        inner = bodies.get(node.op_type) if node.domain == DOMAIN else None
        found.update(_name(one) for one in ([node] if inner is None else inner))
    return found


def _name(node: onnx.NodeProto) -> str:
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type


def _version_faults(model: onnx.ModelProto) -> list[str]:
    faults = [f"ir_version {model.ir_version} above {IR_VERSION}"] if model.ir_version > IR_VERSION else []
    foreign = [opset.domain for opset in model.opset_import if opset.domain not in ("", DOMAIN)]
    return faults + [f"operators of {domain}" for domain in foreign]


def _axis_faults(model: onnx.ModelProto, axes: dict[str, dict[int, str]]) -> list[str]:
    ends = {value.name: value for value in (*model.graph.input, *model.graph.output)}
    if ends.keys() != axes.keys():
        return [f"inputs and outputs are {sorted(ends)}, expected {sorted(axes)}"]
    faults = []
    for name, value in ends.items():
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            wanted = axes[name].get(axis, "")
            if dim.dim_param != wanted or (not wanted and dim.dim_value < 1):
                found = dim.dim_param or dim.dim_value
                faults.append(f"axis {axis} of {name} is {found!r}, expected {wanted or 'a number'!r}")
    return faults


def _operator_faults(model: onnx.ModelProto) -> list[str]:
    found = operators(model)
    faults = [f"{name}: {why}" for name, why in FORBIDDEN.items() if name in found]
    faults += [f"{name}: no operator of ONNX" for name in found if "::" in name]
    cubic = any(
        attribute.name == "mode" and attribute.s == b"cubic"
        for node in model.graph.node
        if node.op_type == "Resize"
        for attribute in node.attribute
    )
    return faults + (["a cubic Resize, which TensorRT does not have"] if cubic else [])
