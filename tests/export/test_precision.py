from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from vlseg.deploy.engines.ort import OnnxRuntime
from vlseg.deploy.errors import UserError
from vlseg.export.graph import OPSETS, to_onnx
from vlseg.export.parts import sources_of
from vlseg.export.policy import operators
from vlseg.export.precision import check_opset, in_precision
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


def test_the_older_opset_answers_the_same(nano, tmp_path):
    source, answers = sources_of(prepare(nano))["decoder"], []
    feed = {name: value.numpy() for name, value in source.inputs.items()}
    for opset in OPSETS:
        graph = to_onnx(source, opset)
        assert [one.version for one in graph.opset_import if not one.domain] == [opset]
        onnx.save(graph, tmp_path / f"{opset}.onnx")
        answers.append(OnnxRuntime(tmp_path / f"{opset}.onnx").run(feed)["logits"])
    np.testing.assert_allclose(*answers, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("opset", "precision", "said"),
    [
        (21, "fp32", r"no opset 21 here; known: 18, 20"),
        (18, "fp8", r"opset 18 has no float16 scales, which fp8 needs: export with opset 20"),
        (18, "int8-fp16", r"opset 18 has no float16 scales"),
    ],
)
def test_an_opset_that_cannot_be(opset, precision, said):
    with pytest.raises(UserError, match=said):
        check_opset(opset, precision)
    check_opset(18, "int8")
