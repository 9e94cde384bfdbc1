"""Operators as nodes with functions beside them: what ONNX Runtime makes of a node is what `reference.py` means."""

import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from vlseg.export.functions import add_functions
from vlseg.export.graph import Source, to_onnx
from vlseg.kernels import nodes, ops, reference
from vlseg.kernels.nodes import BottleneckNode, ClosedNode
from vlseg.kernels.reference import Attention, Norm

ROWS, WIDTH, RANK, INNER = 11, 13, 5, 6
ACTIVATIONS = ("identity", "relu", "gelu", "quick-gelu")
BOTTLENECKS = [
    BottleneckNode(inner, outer, eps, folded, scaled, residual)
    for (inner, outer), eps, folded, (scaled, residual) in itertools.product(
        zip(ACTIVATIONS, ("relu", "identity", "quick-gelu", "gelu"), strict=True),
        (None, 5, 6),
        (False, True),
        ((False, False), (True, True), (False, True), (True, False)),
    )
    if not (folded and eps)
]
SIZES = {
    "x": (ROWS, WIDTH), "hidden": (ROWS, RANK), "residual": (ROWS, WIDTH), "norm_weight": (WIDTH,),
    "norm_bias": (WIDTH,), "down": (RANK, WIDTH), "down_bias": (RANK,), "up": (WIDTH, RANK), "up_bias": (WIDTH,),
    "scale": (WIDTH,), "vision": (2, ROWS, WIDTH), "text": (2, 1, WIDTH), "value_weight": (INNER, WIDTH),
    "value_bias": (INNER,), "out_weight": (WIDTH, INNER), "out_bias": (WIDTH,), "gamma": (WIDTH,),
}  # fmt: skip


def drawn(node: nodes.Node) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(len(node.name))
    return {name: torch.randn(SIZES[name], generator=draw, dtype=torch.float64) for name in node.inputs}


def run(node: nodes.Node, given: dict[str, torch.Tensor], kind: int = TensorProto.DOUBLE) -> np.ndarray:
    """Return what ONNX Runtime makes of a graph of this one node: in float64, which its GELU alone does not have."""
    if "Gelu" in node.name and kind == TensorProto.DOUBLE:
        kind, given = TensorProto.FLOAT, {name: tensor.float() for name, tensor in given.items()}
    ends = [helper.make_tensor_value_info(name, kind, tensor.shape) for name, tensor in given.items()]
    result = helper.make_tensor_value_info("y", kind, next(iter(given.values())).shape)
    body = [helper.make_node(node.name, node.inputs, ["y"], domain=nodes.DOMAIN, **nodes.ATTRIBUTES)]
    model = helper.make_model(helper.make_graph(body, "one", ends, [result]), ir_version=10)
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", 20))
    assert add_functions(model) == [node.name]
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {name: tensor.numpy() for name, tensor in given.items()})[0]


@pytest.mark.parametrize("node", BOTTLENECKS, ids=lambda node: node.name)
def test_a_bottleneck_means_the_reference(node):
    given = drawn(node)
    norm = Norm(given["norm_weight"], given["norm_bias"], 10.0**-node.eps) if node.eps else None
    options = {"inner": node.inner, "outer": node.outer, "scale": given.get("scale"), "residual": given.get("residual")}
    up = given["up"], given["up_bias"]
    if node.folded:
        expected = reference.bottleneck_hidden(given["x"], given["hidden"], *up, **options)
    else:
        expected = reference.bottleneck(given["x"], given["down"], given["down_bias"], *up, norm=norm, **options)
    found, close = run(node, given), 1e-12
    if node.eps:  # the epsilon is float32 in a graph
        close = 1e-9
    if found.dtype == np.float32:
        close = 1e-5 * float(expected.abs().max())
    np.testing.assert_allclose(found, expected.numpy(), rtol=close, atol=close)


@pytest.mark.parametrize("eps", [5, 6])
def test_a_closed_cross_attention_means_the_reference(eps):
    node = ClosedNode(eps)
    g = drawn(node)
    unseen = torch.randn(INNER, WIDTH, dtype=torch.float64), torch.randn(INNER, dtype=torch.float64)
    weights = g["value_weight"], g["value_bias"], g["out_weight"], g["out_bias"]
    norm = Norm(g["norm_weight"], g["norm_bias"], 10.0**-eps)
    vision_norm = Norm(torch.ones(WIDTH, dtype=torch.float64), torch.zeros(WIDTH, dtype=torch.float64))
    attention = Attention(*unseen, *unseen, *weights)
    arguments = (g["vision"], g["text"], attention, vision_norm, norm, g["gamma"])
    expected = reference.gated_cross_attention(*arguments, heads=2)
    np.testing.assert_allclose(run(node, g), expected.numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("node", [BottleneckNode("relu", "relu"), BottleneckNode("relu", "identity", 5), ClosedNode(6)])
def test_half_precision(node):
    given = {name: tensor.half() for name, tensor in drawn(node).items()}
    wide = {name: tensor.double() for name, tensor in given.items()}
    found, expected = run(node, given, TensorProto.FLOAT16), run(node, wide)
    np.testing.assert_allclose(found.astype(np.float64), expected, rtol=2e-2, atol=2e-2)


def test_names_are_read_back():
    assert len({node.name for node in BOTTLENECKS}) == len(BOTTLENECKS)
    assert all(nodes.parse(node.name) == node for node in [*BOTTLENECKS, ClosedNode(5)])
    assert all(node.name.isidentifier() for node in BOTTLENECKS), "TensorRT makes a Python name of it"
    for name in ("Gelu", "Bottleneck", "BottleneckReluReluResidualScaled", "BottleneckNormReluRelu"):
        with pytest.raises(ValueError, match=f"no operator '{name}'"):
            nodes.parse(name)


def test_no_name_is_one_of_onnx():
    """TensorRT's parser looks at the operator type before it looks at the domain."""
    theirs = {schema.name for schema in onnx.defs.get_all_schemas()}
    assert not theirs & {node.name for node in [*BOTTLENECKS, ClosedNode(5)]}


def test_an_epsilon_without_a_name_has_none():
    assert nodes.power_of(1e-5) == 5 and nodes.power_of(1e-12) == 12
    assert nodes.power_of(2e-5) is None and nodes.power_of(0.0) is None


class Uses(nn.Module):
    """Every operator that becomes a node, and two that do not: a norm whose epsilon has no name, a masked attention."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.weights = nn.ParameterDict({name: torch.randn(size) for name, size in SIZES.items() if name != "x"})

    def forward(self, vision, text):
        w, impl = self.weights, ops.preferred(vision.device)
        down, up = (w["down"], w["down_bias"]), (w["up"], w["up_bias"])
        norm = Norm(w["norm_weight"], w["norm_bias"], 1e-6)
        linears = [w["value_weight"], w["value_bias"]] * 3 + [w["out_weight"], w["out_bias"]]
        vision = ops.gated_cross_attention(vision, text, Attention(*linears), norm, norm, w["gamma"], impl=impl)
        vision = ops.bottleneck(vision, *down, *up, outer="identity", norm=norm, scale=w["scale"], impl=impl)
        vision = ops.bottleneck(vision, *down, *up, norm=norm._replace(eps=3e-6), impl=impl)
        hidden = vision @ w["down"].mT
        vision = ops.bottleneck_hidden(vision, hidden, *up, residual=vision, impl=impl)
        mask = torch.ones(text.shape[:2], dtype=torch.bool)
        return ops.gated_cross_attention(
            vision, text, Attention(*linears), norm, norm, w["gamma"], mask=mask, impl=impl
        )


def test_the_exporter_leaves_nodes_and_the_answer_stays():
    module = Uses().eval()
    inputs = {"vision": torch.randn(2, ROWS, WIDTH), "text": torch.randn(2, 1, WIDTH)}
    axes = {name: {0: "batch"} for name in (*inputs, "y")}
    graph = to_onnx(Source(module, inputs, axes, ("y",)))
    left = [node for node in graph.graph.node if node.domain == nodes.DOMAIN]
    assert [node.op_type for node in left] == [
        "GatedCrossAttentionNorm6",
        "BottleneckNorm6ReluIdentityScaled",
        "BottleneckHiddenReluReluResidual",
    ]
    for node in left:
        assert {a.name: helper.get_attribute_value(a) for a in node.attribute} == {
            "plugin_namespace": b"vlseg",
            "plugin_version": b"1",
            "aot": 1,
        }
        assert len(node.input) == len(nodes.parse(node.op_type).inputs)
    assert {function.name for function in graph.functions} == {node.op_type for node in left}
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    for batch in (1, 3):
        given = {name: torch.randn(batch, *tensor.shape[1:]) for name, tensor in inputs.items()}
        (found,) = session.run(None, {name: tensor.numpy() for name, tensor in given.items()})
        with torch.no_grad():
            expected = module(*given.values()).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_a_node_computes_nothing_outside_an_export():
    with pytest.raises(ValueError, match="computes nothing"), torch.no_grad(), ops.preferring("node"):
        Uses()(torch.randn(2, ROWS, WIDTH), torch.randn(2, 1, WIDTH))
