import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from vlseg.deploy.errors import UserError
from vlseg.export.graph import Source, axes_of, to_onnx
from vlseg.export.policy import check

AXES = {"x": {0: "batch"}, "y": {0: "batch"}}


class Doubles(nn.Module):
    def forward(self, x):
        return x + x


class Specialises(nn.Module):
    def forward(self, x):
        return x * (2 if len(x) == 2 else 3)


def test_a_dynamic_axis_keeps_its_name():
    graph = to_onnx(Source(Doubles(), {"x": torch.randn(2, 5)}, AXES, ("y",)))
    assert axes_of(graph) == {"x": ["batch", 5], "y": ["batch", 5]}


def test_a_module_that_specialises_an_axis_is_refused():
    with pytest.raises(Exception, match=r"(?i)batch|specializ|constant"):
        to_onnx(Source(Specialises(), {"x": torch.randn(2, 5)}, AXES, ("y",)))


def test_nothing_but_the_graph_is_left():
    graph = to_onnx(Source(Doubles(), {"x": torch.randn(2, 5)}, AXES, ("y",)))
    assert not graph.metadata_props and not graph.graph.metadata_props and not graph.graph.value_info
    assert not any(node.metadata_props or node.doc_string for node in graph.graph.node)
    assert b"File " not in graph.SerializeToString()


def made(nodes, dims=("batch", 1, 4, 4), opsets=(("", 20),), ir_version=10):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "made", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*o) for o in opsets], ir_version=ir_version)


RELU = helper.make_node("Relu", ["x"], ["y"])
FOREIGN = helper.make_node("QuickGelu", ["x"], ["y"], domain="com.microsoft")
CUBIC = [
    helper.make_node("Constant", [], ["scales"], value_floats=[1.0, 1.0, 1.0, 1.0]),
    helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="cubic"),
]


def test_a_plain_graph_passes():
    check(made([RELU]), AXES)


@pytest.mark.parametrize(
    ("graph", "sentence"),
    [
        (made([RELU], dims=(2, 1, 4, 4)), "axis 0 of x is 2, expected 'batch'"),
        (made([RELU], dims=("batch", 1, "high", 4)), "axis 2 of x is 'high', expected 'a number'"),
        (made([RELU], ir_version=11), "ir_version 11"),
        (made(CUBIC), "cubic Resize"),
        (
            made(
                [helper.make_node("QuickGelu", ["x"], ["y"], domain="com.microsoft")],
                opsets=[("", 20), ("com.microsoft", 1)],
            ),
            "com.microsoft",
        ),
    ],
)
def test_what_an_engine_cannot_read_is_refused(graph, sentence):
    with pytest.raises(UserError, match=sentence):
        check(graph, AXES)


def test_a_lost_output_is_seen():
    with pytest.raises(UserError, match="expected"):
        check(made([RELU]), {"x": {0: "batch"}, "z": {0: "batch"}})


def test_a_branch_is_refused():
    answer = helper.make_tensor_value_info("z", TensorProto.FLOAT, ("batch", 1, 4, 4))
    inner = helper.make_graph([helper.make_node("Relu", ["x"], ["z"])], "then", [], [answer])
    nodes = [
        helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("yes", TensorProto.BOOL, [], [True])),
        helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=inner),
    ]
    with pytest.raises(UserError, match="If:"):
        check(made(nodes), AXES)
