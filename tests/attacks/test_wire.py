"""ONNX files whose weights lie elsewhere: the walk over the wire format sees what the onnx library sees."""

import json

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from vlseg.deploy.errors import EngineError
from vlseg.deploy.files import seal_of, sha256
from vlseg.deploy.manifest import MANIFEST
from vlseg.deploy.segmenter import Segmenter
from vlseg.deploy.wire import check_own_weights

PLACES = ("initializer", "attribute", "tensors", "subgraph", "function", "sparse")


def elsewhere(location: str = "../secret.bin") -> TensorProto:
    tensor = TensorProto(name="w", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def model_with(tensor: TensorProto, place: str) -> onnx.ModelProto:
    """Put a tensor somewhere into a model."""
    node = helper.make_node("Identity", ["w"], ["y"])
    graph = helper.make_graph([node], "g", [], [helper.make_tensor_value_info("y", 1, [4])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    if place == "initializer":
        model.graph.initializer.append(tensor)
    elif place == "attribute":
        model.graph.node[0].attribute.append(onnx.AttributeProto(name="value", type=4, t=tensor))
    elif place == "tensors":
        model.graph.node[0].attribute.append(onnx.AttributeProto(name="values", type=9, tensors=[tensor]))
    elif place == "subgraph":
        inner = helper.make_graph([], "inner", [], [], [tensor])
        model.graph.node[0].attribute.append(onnx.AttributeProto(name="body", type=5, g=inner))
    elif place == "function":
        model.functions.add(name="f", domain="d").node.append(model.graph.node[0])
        model.functions[0].node[0].attribute.append(onnx.AttributeProto(name="value", type=4, t=tensor))
    else:
        model.graph.sparse_initializer.add(values=tensor)
    return model


@pytest.mark.parametrize("place", PLACES)
def test_weights_elsewhere_are_seen_wherever_they_hang(tmp_path, place):
    path = tmp_path / "x.onnx"
    path.write_bytes(model_with(elsewhere(), place).SerializeToString())
    with pytest.raises(EngineError, match=r"x\.onnx keeps weights in other files"):
        check_own_weights(path)
    path.write_bytes(model_with(numpy_helper.from_array(np.ones(4, np.float32), "w"), place).SerializeToString())
    check_own_weights(path)


@pytest.mark.parametrize("sign", ["data", "location"])
def test_one_of_the_two_signs_is_enough(tmp_path, sign):
    tensor = elsewhere()
    tensor.ClearField("data_location" if sign == "data" else "external_data")
    (tmp_path / "x.onnx").write_bytes(model_with(tensor, "initializer").SerializeToString())
    with pytest.raises(EngineError, match="keeps weights"):
        check_own_weights(tmp_path / "x.onnx")


def test_the_default_location_written_out_is_no_sign(tmp_path):
    tensor = numpy_helper.from_array(np.ones(4, np.float32), "w")
    tensor.data_location = TensorProto.DEFAULT
    (tmp_path / "x.onnx").write_bytes(model_with(tensor, "initializer").SerializeToString())
    check_own_weights(tmp_path / "x.onnx")


@given(data=st.binary(max_size=200))
def test_any_bytes_end_in_an_answer(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(data)
    try:
        check_own_weights(path)
    except EngineError as error:
        assert "any.onnx" in str(error)


@given(cut=st.integers(1, 10_000), place=st.sampled_from(PLACES))
def test_a_cut_or_swollen_file_is_refused(tmp_path_factory, cut, place):
    path = tmp_path_factory.getbasetemp() / "cut.onnx"
    whole = model_with(elsewhere(), place).SerializeToString()
    path.write_bytes(whole[: -(cut % len(whole)) or None] if cut % 2 else whole + b"\xff" * 12)
    try:
        check_own_weights(path)
    except EngineError:
        return
    loaded = onnx.load_model_from_string(path.read_bytes())
    assert "secret" not in str(loaded)


@pytest.mark.parametrize("location", ["../secret.bin", "beside.bin"])
def test_a_bundle_with_such_a_part_does_not_open(toy_bundle, location, monkeypatch):
    """Also where the file lies beside it: no hash of the manifest would vouch for it."""
    model = onnx.load(toy_bundle / "text.onnx")
    (table,) = [tensor for tensor in model.graph.initializer if tensor.name == "table"]
    (toy_bundle / "beside.bin").write_bytes(numpy_helper.to_array(table).tobytes())
    (toy_bundle.parent / "secret.bin").write_bytes((toy_bundle / "beside.bin").read_bytes())
    table.ClearField("raw_data")
    table.data_location = TensorProto.EXTERNAL
    table.external_data.add(key="location", value=location)
    (toy_bundle / "text.onnx").write_bytes(model.SerializeToString())
    values = json.loads((toy_bundle / MANIFEST).read_text())
    values["files"]["text.onnx"] = sha256(toy_bundle / "text.onnx")
    (toy_bundle / MANIFEST).write_text(json.dumps({**values, "seal": seal_of(values)}))
    with pytest.raises(EngineError, match=r"text\.onnx keeps weights in other files"):
        Segmenter.open(toy_bundle)
