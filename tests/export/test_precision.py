from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from vlseg.deploy.engines.ort import OnnxRuntime
from vlseg.deploy.errors import UserError
from vlseg.export.graph import to_onnx
from vlseg.export.parts import sources_of
from vlseg.export.policy import operators
from vlseg.export.precision import in_precision
from vlseg.export.prepare import prepare


def half(prepared):
    source = sources_of(prepared)["decoder"]
    return to_onnx(replace(source, module=in_precision(source.module, "fp16")))


def test_half_inside_float_at_the_ends(nano, tmp_path):
    prepared = prepare(nano)
    graph = half(prepared)
    kinds = {tensor.data_type for tensor in graph.graph.initializer if len(tensor.dims) > 1}
    assert kinds == {onnx.TensorProto.FLOAT16}
    ends = [value.type.tensor_type.elem_type for value in (*graph.graph.input, *graph.graph.output)]
    assert set(ends) == {onnx.TensorProto.FLOAT}
    onnx.save(graph, tmp_path / "decoder.onnx")
    given = {"image_embedding": torch.randn(2, 3, 17, 16), "text_embedding": torch.randn(2, 2, 16)}
    found = OnnxRuntime(tmp_path / "decoder.onnx").run({name: one.numpy() for name, one in given.items()})["logits"]
    with torch.no_grad():
        expected = prepared.parts["decoder"](*given.values())[0].numpy()
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).max() < 0.05 * expected.std()


def test_softmax_is_an_island_of_float32_in_half_and_no_cast_in_float(nano, exported):
    graph = half(prepare(nano))
    made_by = {name: node for node in graph.graph.node for name in node.output}
    for node in graph.graph.node:
        if node.op_type == "Softmax":
            before = made_by[node.input[0]]
            assert before.op_type == "Cast" and before.attribute[0].i == onnx.TensorProto.FLOAT
    assert not operators(onnx.load(exported[1] / "decoder.onnx"))["Cast"]


def test_the_module_itself_stays_in_float():
    module = nn.Linear(3, 2)
    in_precision(module, "fp16")
    assert module.weight.dtype == torch.float32


def test_weights_beyond_half_are_refused():
    module = nn.Linear(3, 2)
    nn.init.constant_(module.weight, 1e6)
    with pytest.raises(UserError, match="fp32"):
        in_precision(module, "fp16")
