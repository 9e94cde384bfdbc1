"""Every artefact that leaves here becomes a real engine of TensorRT-RTX, on a CPU."""

import onnx
import pytest

from vlseg.deploy import rtx
from vlseg.deploy.errors import EngineError, UserError
from vlseg.deploy.manifest import Manifest
from vlseg.deploy.rtx_plans import FOLDER, INDEX, read_index
from vlseg.export import targets
from vlseg.export.bundle import Options, export_model, pack
from vlseg.export.rtx import PROVIDER, context
from vlseg.train.models.methods import build_model

needs_rtx = pytest.mark.skipif(rtx.missing() is not None, reason=rtx.INSTALL)
slow = pytest.mark.slow


@needs_rtx
def test_a_bundle_for_rtx_brings_its_engines(nano, info, same_graphs, tmp_path):
    said = []
    options = Options(folds="none", target="tensorrt-rtx", architectures=(86, 120))
    report = export_model(nano, info, tmp_path / "bundle", options, progress=said.append)
    manifest = Manifest.load(tmp_path / "bundle")
    entries = read_index(tmp_path / "bundle", manifest)
    assert {"rtx/image.plan", "rtx/text.plan", "rtx/decoder.plan", INDEX} <= manifest.files.keys()
    assert [row["part"] for row in report["engines"]] == list(entries) == ["image", "text", "decoder"]
    assert all(row["architectures"] == [86, 120] and row["seconds"] > 0 for row in report["engines"])
    assert all(entry.bytes == (tmp_path / "bundle" / entry.plan).stat().st_size for entry in entries.values())
    assert sum("engine for sm_86, sm_120" in step for step in said) == 3


@needs_rtx
def test_nothing_is_written_where_a_part_cannot_be_built(nano, info, same_graphs, tmp_path):
    with pytest.raises(EngineError, match=r"cannot build image.onnx for sm_75: .*FP32 GEMM"):
        export_model(nano, info, tmp_path / "bundle", Options(target="tensorrt-rtx", architectures=(75,)))
    assert not list(tmp_path.iterdir())


def test_the_context_is_one_node_with_the_ends_of_the_part(exported):
    _, folder, _ = exported
    model = onnx.load(folder / "decoder.onnx")
    made = context(model, "decoder.plan", (86, 120))
    onnx.checker.check_model(made)
    (node,) = made.graph.node
    facts = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    assert (node.op_type, node.domain, facts["source"]) == ("EPContext", "com.microsoft", PROVIDER.encode())
    assert facts["ep_cache_context"] == b"decoder.plan" and facts["embed_mode"] == 0
    assert list(made.graph.input) == list(model.graph.input) and list(made.graph.output) == list(model.graph.output)


def test_onnx_runtime_knows_that_an_engine_is_not_for_its_cpu(exported, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    onnx.save(context(onnx.load(exported[1] / "decoder.onnx"), "decoder.plan", (86,)), tmp_path / "context.onnx")
    with pytest.raises(Exception, match="EPContext"):
        onnxruntime.InferenceSession(tmp_path / "context.onnx", providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    ("target", "architectures", "said"),
    [
        ("coreml", (), r"no target 'coreml'; known: onnx, "),
        ("onnx", (86,), r"--arch says what is built for"),
        ("tensorrt-rtx", (87,), r"builds nothing for sm_87"),
    ],
)
def test_a_target_that_cannot_be_is_refused_first(target, architectures, said):
    with pytest.raises(UserError, match=said):
        targets.check_target(target, architectures)


def test_without_the_wheels_the_target_is_refused_first(monkeypatch):
    monkeypatch.setattr(targets.rtx, "missing", lambda: rtx.INSTALL)
    with pytest.raises(EngineError, match=r'pip install "vlseg\[rtx\]"'):
        targets.check_target("tensorrt-rtx")


@needs_rtx
@pytest.mark.parametrize(
    ("method", "size", "precision", "opset"),
    [
        ("clipseg/dense-vl", "tiny", "fp16", 20),
        pytest.param("clipseg/dense-vl", "tiny", "fp32", 18, marks=slow),
        pytest.param("clipseg/dense-vl", "base", "fp16", 20, marks=slow),
        pytest.param("clipseg/cocoop", "nano", "fp16", 20, marks=slow),
        pytest.param("clipseg/maple", "nano", "fp32", 20, marks=slow),
        pytest.param("clipseg/decoder+upsampler", "nano", "fp16", 20, marks=slow),
        pytest.param("cris/cocoop", "nano", "fp16", 20, marks=slow),
        pytest.param("san/adapter", "nano", "fp16", 20, marks=slow),
        pytest.param("sam/lga", "nano", "fp16", 20, marks=slow),
        pytest.param("sam/lga", "nano", "fp32", 18, marks=slow),
        pytest.param("cris/coop", "nano", "fp16", 18, marks=slow),
    ],
)
def test_every_part_builds(method, size, precision, opset, tmp_path):
    model = build_model(method, size, weights=None if size == "tiny" else "random")
    options = Options(precision, folds="none", opset=opset)
    manifest = pack(model, {"method": method, "size": size, "weights": "random"}, tmp_path, options, lambda step: None)
    for part, file in manifest.parts.items():
        plan = rtx.build(tmp_path / str(file), manifest.axes[part])
        assert set(plan.left_out) <= {75} and len(plan.architectures) + len(plan.left_out) == 5
        assert precision == "fp32" or not plan.left_out
        assert len(plan.data) > 1 << 12
    assert not (tmp_path / FOLDER).exists()
