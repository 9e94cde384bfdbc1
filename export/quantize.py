"""Eight bits in a graph: explicit, symmetric Quantize / Dequantize pairs around the linear layers of an encoder.

Engines that are strongly typed take the pairs as they stand, ONNX Runtime fuses them into integer products on a CPU.
Only linears of encoder layers are touched: adapters, norms, softmax, decoder and mask head keep their precision.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..deploy.errors import UserError


@dataclass(frozen=True)
class Kind:
    """An eight-bit number: its largest value and its ONNX type; zero is zero."""

    largest: float
    type: int

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Round scaled float32 values to the nearest that there are, those beyond the largest to the largest."""
        clipped = np.clip(values, -self.largest, self.largest)
        if self.type == TensorProto.INT8:
            return np.rint(clipped).astype(np.int8)
        return clipped.astype(ml_dtypes.float8_e4m3fn)


KINDS = {"int8": Kind(127, TensorProto.INT8), "fp8": Kind(448, TensorProto.FLOAT8E4M3FN)}

# where the exporter's names say which layer a weight belongs to, and an adapter's own names
_LAYER = re.compile(r"(?:^|\.)(?:encoder\.layers|layers|resblocks|blocks)\.(\d+)\.")
_ADAPTER = re.compile(r"\.graft\.|\badapter|\blora", re.IGNORECASE)
_SUBLAYER = re.compile(r"attn|attention")


class Range(NamedTuple):
    """How far what a linear reads reaches: where it is cut off, and the mean of each channel, (in,)."""

    cut: float
    mean: np.ndarray


@dataclass(frozen=True)
class Linear:
    """A product of a tensor with a constant matrix, and perhaps a bias.

    Attributes:
        name: of its output tensor, unique in the graph.
        source: tensor that is multiplied.
        weight: initializer, (out, in) where `transposed`, else (in, out).
        bias: initializer, or empty.
        transposed: is the weight's first axis the output's?
        group: the sub-layer it belongs to, `layer 3 mlp`.
    """

    name: str
    source: str
    weight: str
    bias: str
    transposed: bool
    group: str


def linears_of(model: onnx.ModelProto) -> list[Linear]:
    """Return the linears of a graph's encoder layers, in their order; those of adapters are left out."""
    matrices = {one.name for one in model.graph.initializer if len(one.dims) == 2}
    return [linear for node in model.graph.node if (linear := _as_linear(node, matrices)) is not None]


def quantize(
    model: onnx.ModelProto, linears: Collection[Linear], ranges: Mapping[str, Range], kind: Kind
) -> onnx.ModelProto:
    """Return a copy of `model` in which these linears are products of eight-bit numbers.

    Weights have a scale for each output, what they multiply has one. What the rounding of the weights adds to the mean
    of an output is taken from its bias (Nagel et al., arXiv 1906.04721, section 4.2).

    Args:
        model: graph in float32 or float16; its scales are of the same type.
        linears: of `linears_of(model)`.
        ranges: for each linear's name, how far its source reaches.
        kind: the numbers.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    chosen = {linear.name: linear for linear in linears}
    weights = {one.name: one for one in made.graph.initializer}
    scales = _own_scales(linears, ranges, kind)
    nodes: list[onnx.NodeProto] = []
    for node in made.graph.node:
        linear = chosen.get(node.output[0]) if node.output else None
        if linear is None:
            nodes.append(node)
            continue
        arrays = [numpy_helper.to_array(weights[name]) for name in (linear.weight, linear.bias) if name]
        new, constants = _pairs(linear, arrays, scales[linear.name], ranges[linear.name].mean, kind)
        nodes += new
        made.graph.initializer.extend(constants)
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    _drop_unread(made.graph)
    return made


def _as_linear(node: onnx.NodeProto, matrices: Collection[str]) -> Linear | None:
    if node.domain or node.op_type not in ("Gemm", "MatMul") or node.input[1] not in matrices:
        return None
    facts = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    if facts.get("transA") or facts.get("alpha", 1.0) != 1 or facts.get("beta", 1.0) != 1:
        return None
    weight, bias = node.input[1], node.input[2] if len(node.input) > 2 else ""
    layer = _LAYER.search(weight)
    if layer is None or _ADAPTER.search(weight):
        return None
    group = f"layer {layer[1]} {'attention' if _SUBLAYER.search(weight) else 'mlp'}"
    return Linear(node.output[0], node.input[0], weight, bias, bool(facts.get("transB")), group)


def _own_scales(linears: Collection[Linear], ranges: Mapping[str, Range], kind: Kind) -> dict[str, np.float32]:
    """Return the scale of each linear's source, no two of one tensor alike: the later ones one step of float32 larger.

    ONNX Runtime merges equal Quantize nodes, and then does not find the pairs of queries, keys and values any more.
    """
    taken: dict[str, set[float]] = {}
    scales = {}
    for linear in linears:
        scale = np.float32(ranges[linear.name].cut / kind.largest)
        seen = taken.setdefault(linear.source, set())
        while float(scale) in seen:
            scale = np.nextafter(scale, np.float32(np.inf))
        seen.add(float(scale))
        scales[linear.name] = scale
    return scales


def _pairs(
    linear: Linear, arrays: Sequence[np.ndarray], scale: np.float32, mean: np.ndarray, kind: Kind
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Return what stands for a linear, and its constants; `arrays` are its weight and its bias, if any."""
    of, x, w = arrays[0].dtype, f"{linear.name}_x", f"{linear.name}_w"
    matrix = (arrays[0].T if linear.transposed else arrays[0]).astype(np.float32)
    steps = _rounded_up(np.maximum(np.abs(matrix).max(axis=0), 1e-6) / kind.largest, of)
    eight = kind(np.ascontiguousarray(matrix / steps.astype(np.float32)))
    constants = [
        numpy_helper.from_array(_rounded_up(np.asarray(scale), of), f"{x}_scale"),
        _eight(f"{x}_zero", kind(np.zeros((), np.float32)), kind),
        numpy_helper.from_array(steps, f"{w}_scale"),
        _eight(f"{w}_zero", kind(np.zeros(steps.shape, np.float32)), kind),
        _eight(f"{w}_q", eight, kind),
    ]
    out = f"{linear.name}_product" if linear.bias else linear.name
    nodes = [
        helper.make_node("QuantizeLinear", [linear.source, f"{x}_scale", f"{x}_zero"], [f"{x}_q"]),
        helper.make_node("DequantizeLinear", [f"{x}_q", f"{x}_scale", f"{x}_zero"], [f"{x}_d"]),
        helper.make_node("DequantizeLinear", [f"{w}_q", f"{w}_scale", f"{w}_zero"], [f"{w}_d"], axis=1),
        helper.make_node("MatMul", [f"{x}_d", f"{w}_d"], [out], linear.name),
    ]
    if linear.bias:
        lost = mean @ (matrix - eight.astype(np.float32) * steps.astype(np.float32))
        minus = -(arrays[1].astype(np.float32) + lost).astype(of)
        constants.append(numpy_helper.from_array(minus, f"{linear.name}_minus"))
        # an Add would be merged back into a Gemm, for which ONNX Runtime has no integer kernel beside a float bias
        nodes.append(helper.make_node("Sub", [out, f"{linear.name}_minus"], [linear.name]))
    return nodes, constants


def _rounded_up(values: np.ndarray, of: np.dtype) -> np.ndarray:
    """Return values in a type that may be coarser, none smaller, so that nothing is cut off by the rounding."""
    rounded = values.astype(of)
    up = np.nextafter(rounded, np.asarray(np.inf, of))
    return np.where(rounded.astype(np.float32) < values, up, rounded).astype(of)


def _eight(name: str, values: np.ndarray, kind: Kind) -> onnx.TensorProto:
    made = onnx.TensorProto(name=name, data_type=kind.type, dims=values.shape)
    made.raw_data = values.tobytes()
    return made


def _drop_unread(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in node.input}
    kept = [one for one in graph.initializer if one.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def groups_of(linears: Collection[Linear]) -> dict[str, list[Linear]]:
    """Return the linears by group, in their order; UserError where there are none."""
    groups: dict[str, list[Linear]] = {}
    for linear in linears:
        groups.setdefault(linear.group, []).append(linear)
    return groups


def sources_of(linears: Collection[Linear]) -> Iterator[str]:
    """Yield each tensor that a linear reads, once."""
    yield from dict.fromkeys(linear.source for linear in linears)


def check_some(linears: Mapping[str, Collection[Linear]], method: str) -> None:
    """Refuse a model none of whose parts has a linear that can be quantised."""
    if not any(linears.values()):
        raise UserError(f"no linear layer of an encoder was found in {method}: export with --precision fp16")
