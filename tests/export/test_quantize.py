"""Eight bits by hand: what a quantised linear computes, and what is left alone."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vlseg.deploy import rtx
from vlseg.deploy.engines.ort import OnnxRuntime
from vlseg.export.quantize import KINDS, Linear, Range, linears_of, quantize
from vlseg.export.quantize_ranges import ranges

LAYER = "module.encoder.layers.3."


def layer_graph(draw, kind=np.float32):
    """Return a graph of a transformer layer's linears: two that read one tensor, one behind them, and an adapter's."""
    sizes = {"self_attn.query": (6, 8), "self_attn.key": (6, 8), "mlp.fc2": (5, 6), "mlp.graft.down": (2, 5)}
    constants = [
        numpy_helper.from_array(draw.normal(0, 0.3, shape).astype(kind), f"{LAYER}{name}.weight")
        for name, shape in sizes.items()
    ]
    constants += [numpy_helper.from_array(draw.normal(0, 1, 6).astype(kind), f"{LAYER}self_attn.query.bias")]
    constants += [numpy_helper.from_array(draw.normal(0, 1, (5, 4)).astype(kind), "head.weight")]
    w = {name: f"{LAYER}{name}.weight" for name in sizes}
    nodes = [
        helper.make_node("Gemm", ["x", w["self_attn.query"], f"{LAYER}self_attn.query.bias"], ["q"], transB=1),
        helper.make_node("Gemm", ["x", w["self_attn.key"]], ["k"], transB=1),
        helper.make_node("Mul", ["q", "k"], ["s"]),
        helper.make_node("Gemm", ["s", w["mlp.fc2"]], ["f"], transB=1),
        helper.make_node("Gemm", ["f", w["mlp.graft.down"]], ["adapted"], transB=1),
        helper.make_node("MatMul", ["f", "head.weight"], ["out"]),
    ]
    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    ends = [helper.make_tensor_value_info(n, number, ["batch", c]) for n, c in (("x", 8), ("out", 4), ("adapted", 2))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model, x, tmp_path):
    onnx.save(model, tmp_path / "g.onnx")
    return OnnxRuntime(tmp_path / "g.onnx").run({"x": x})


@pytest.fixture
def draw():
    return np.random.default_rng(3)


def test_linears_are_those_of_encoder_layers_without_adapters(draw):
    found = linears_of(layer_graph(draw))
    assert [(one.name, one.source, one.group) for one in found] == [
        ("q", "x", "layer 3 attention"),
        ("k", "x", "layer 3 attention"),
        ("f", "s", "layer 3 mlp"),
    ]
    assert found[0].bias and not found[1].bias and all(one.transposed for one in found)


def test_a_quantised_linear_is_the_product_of_rounded_numbers(draw, tmp_path):
    model, x = layer_graph(draw), draw.normal(0, 1, (7, 8)).astype(np.float32)
    (linear,) = [one for one in linears_of(model) if one.name == "k"]
    made = quantize(model, [linear], {"k": Range(2.0, np.zeros(8, np.float32))}, KINDS["int8"])
    made.graph.output.append(helper.make_tensor_value_info("k", TensorProto.FLOAT, ["batch", 6]))
    weight = numpy_helper.to_array(next(one for one in model.graph.initializer if one.name == linear.weight))
    step, steps = 2.0 / 127, np.abs(weight.astype(np.float64)).max(1) / 127
    # engines saturate at -128
    expected = np.clip(np.rint(x / step), -128, 127) * step @ (np.rint(weight / steps[:, None]) * steps[:, None]).T
    assert np.abs(run(made, x, tmp_path)["k"] - expected).max() < 1e-5
    assert np.abs(expected - x.astype(np.float64) @ weight.T).max() > 1e-3


@pytest.mark.parametrize(("kind", "number"), [("int8", np.float32), ("int8", np.float16), ("fp8", np.float16)])
def test_it_stays_near_the_float_model(draw, tmp_path, kind, number):
    model, x = layer_graph(draw, number), draw.normal(0, 1, (64, 8)).astype(number)
    linears = linears_of(model)
    made = quantize(model, linears, ranges(model, linears, [{"x": x}], KINDS[kind]), KINDS[kind])
    onnx.checker.check_model(made, full_check=True)
    expected, found = run(model, x, tmp_path), run(made, x, tmp_path)
    for name in ("out", "adapted"):
        error = np.abs(found[name].astype(np.float64) - expected[name])
        assert 0 < error.mean() < (0.02 if kind == "int8" else 0.06) * expected[name].std()


def test_numbers_are_symmetric_and_adapters_stay(draw):
    model = layer_graph(draw)
    linears = linears_of(model)
    made = quantize(model, linears, dict.fromkeys("qkf", Range(1.0, np.zeros(()))) | wide(linears), KINDS["int8"])
    constants = {one.name: one for one in made.graph.initializer}
    eight = [one for one in constants.values() if one.data_type == TensorProto.INT8]
    assert len(eight) == 9 and not any(one.data_type == TensorProto.UINT8 for one in constants.values())
    assert all(not numpy_helper.to_array(one).any() for one in eight if one.name.endswith("_zero"))
    assert f"{LAYER}mlp.graft.down.weight" in constants and "head.weight" in constants
    # the float weights have left
    assert f"{LAYER}mlp.fc2.weight" not in constants
    assert linears_of(model) == linears


def wide(linears):
    """Return a range for each linear, wide enough for these tests."""
    return {one.name: Range(4.0, np.zeros(8 if one.source == "x" else 6, np.float32)) for one in linears}


def test_linears_that_read_one_tensor_keep_their_own_steps(draw, tmp_path):
    model = layer_graph(draw)
    linears = linears_of(model)
    made = quantize(model, linears, wide(linears), KINDS["int8"])
    scales = {one.name: numpy_helper.to_array(one) for one in made.graph.initializer if one.name.endswith("x_scale")}
    assert 0 < scales["k_x_scale"] - scales["q_x_scale"] < 1e-6
    assert integer_products(made, tmp_path) == 3


def integer_products(model, tmp_path):
    """Return how many products ONNX Runtime computes in integers."""
    onnxruntime = pytest.importorskip("onnxruntime")
    onnx.save(model, tmp_path / "q.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(tmp_path / "q.onnx", options, providers=["CPUExecutionProvider"])
    return sum(
        node.op_type in ("QGemm", "MatMulIntegerToFloat") for node in onnx.load(tmp_path / "optimised.onnx").graph.node
    )


def test_the_mean_that_rounding_shifts_is_taken_back(draw, tmp_path):
    model, x = layer_graph(draw), (3 + draw.normal(0, 0.1, (512, 8))).astype(np.float32)
    linears = [one for one in linears_of(model) if one.name == "q"]
    seen = ranges(model, linears, [{"x": x}], KINDS["int8"])
    assert np.abs(seen["q"].mean - x.mean(0)).max() < 1e-4
    blind = {"q": seen["q"]._replace(mean=np.zeros(8, np.float32))}
    shifts = []
    for known in (seen, blind):
        made = quantize(model, linears, known, KINDS["int8"])
        for graph in (model.graph, made.graph):
            graph.output.append(helper.make_tensor_value_info("q", TensorProto.FLOAT, ["batch", 6]))
        shifts.append(np.abs((run(made, x, tmp_path)["q"] - run(model, x, tmp_path)["q"]).mean(0)).max())
        model.graph.output.pop()
    assert shifts[0] < 0.5 * shifts[1]


def test_one_large_value_does_not_take_the_steps_of_the_others(draw):
    model, x = layer_graph(draw), draw.normal(0, 1, (4000, 8)).astype(np.float32)
    x[0, 0] = 60
    linears = [one for one in linears_of(model) if one.source == "x"]
    cut = ranges(model, linears, [{"x": x}], KINDS["int8"])["q"].cut
    assert 3 < cut < 40
    assert ranges(model, linears, [{"x": x}], KINDS["fp8"])["q"].cut == 60
    nothing = ranges(model, linears, [{"x": np.zeros((2, 8), np.float32)}], KINDS["int8"])
    assert nothing["q"].cut == 1


def test_a_matmul_with_a_constant_is_a_linear_and_one_between_tensors_is_none(draw):
    weight = numpy_helper.from_array(draw.normal(0, 1, (8, 4)).astype(np.float32), "blocks.0.attn.out.weight")
    nodes = [helper.make_node("MatMul", ["x", weight.name], ["y"]), helper.make_node("MatMul", ["x", "y"], ["z"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [8, 8]) for name in ("x", "z")]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight]))
    assert linears_of(model) == [Linear("y", "x", weight.name, "", False, "layer 0 attention")]


@pytest.mark.skipif(rtx.missing() is not None, reason=rtx.INSTALL)
@pytest.mark.parametrize(
    ("kind", "number", "architectures"),
    [
        ("int8", np.float16, rtx.ARCHITECTURES),
        ("int8", np.float32, (80, 86, 89, 120)),
        ("fp8", np.float16, (89, 120)),
    ],
)
def test_tensorrt_builds_it(draw, tmp_path, kind, number, architectures):
    model = layer_graph(draw, number)
    linears = linears_of(model)
    onnx.save(quantize(model, linears, wide(linears), KINDS[kind]), tmp_path / "q.onnx")
    plan = rtx.build(tmp_path / "q.onnx", {"x": ["batch", 8]}, architectures)
    assert plan.architectures == architectures
