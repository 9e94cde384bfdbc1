"""TensorRT-RTX for real: the parser and the compiler run on a CPU; only running an engine needs a card."""

import json
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from vlseg.deploy import rtx
from vlseg.deploy.engines import rtx as engine
from vlseg.deploy.engines.protocol import Part
from vlseg.deploy.errors import BundleError, EngineError, UserError
from vlseg.deploy.manifest import Manifest
from vlseg.deploy.rtx_plans import INDEX, Entry, context_of, read_index, write_index

needs_rtx = pytest.mark.skipif(rtx.missing() is not None, reason=rtx.INSTALL)


def product(path, kind=np.float32, op="MatMul"):
    """Write a graph of one product with a weight (8, 4), rows being free."""
    weight = numpy_helper.from_array(np.ones((8, 4), kind), "w")
    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    ends = [helper.make_tensor_value_info(name, number, ["batch", width]) for name, width in (("x", 8), ("y", 4))]
    graph = helper.make_graph([helper.make_node(op, ["x", "w"], ["y"], "one")], "g", ends[:1], ends[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


DIMS = {"x": ["batch", 8], "y": ["batch", 4]}


@needs_rtx
def test_one_engine_serves_every_card_in_half(tmp_path):
    plan = rtx.build(product(tmp_path / "half.onnx", np.float16), DIMS)
    assert plan.architectures == rtx.ARCHITECTURES and not plan.left_out
    assert plan.layers > 0 and plan.seconds > 0 and len(plan.data) > 64


@needs_rtx
def test_float32_products_leave_turing_out_and_say_so(tmp_path):
    path = product(tmp_path / "single.onnx")
    plan = rtx.build(path, DIMS)
    assert plan.architectures == (80, 86, 89, 120) and plan.left_out == {75: rtx.TURING}
    with pytest.raises(EngineError, match=r"single.onnx for sm_75: .*FP32 GEMM"):
        rtx.build(path, DIMS, [75])


@needs_rtx
def test_the_runtime_knows_the_plan_and_not_a_truncated_one(tmp_path):
    plan = rtx.build(product(tmp_path / "half.onnx", np.float16), DIMS, [86, 120])
    trt = rtx.load()
    heard = trt.Logger(trt.Logger.INTERNAL_ERROR)
    runtime, malformed = trt.Runtime(heard), int(trt.EngineInvalidityDiagnostics.MALFORMED_ENGINE)
    assert not runtime.get_engine_validity(plan.data)[1] & malformed
    # without a driver the runtime reads no further than the header
    assert runtime.get_engine_validity(b"\0" * runtime.engine_header_size)[1] & malformed


@needs_rtx
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:40]), "cannot read broken.onnx: "),
        (lambda path: product(path, op="NoSuchThing"), r"node one, operator NoSuchThing"),
    ],
)
def test_a_file_that_it_cannot_read_is_named_with_its_node(tmp_path, change, said):
    path = product(tmp_path / "broken.onnx")
    change(path)
    with pytest.raises(EngineError, match=said):
        rtx.build(path, DIMS, [86])


def test_cards_that_it_builds_nothing_for():
    assert rtx.check_architectures([]) == rtx.ARCHITECTURES
    assert rtx.check_architectures([120, 86, 86]) == (86, 120)
    with pytest.raises(UserError, match=r"nothing for sm_87: choose from 75, .*vlseg build"):
        rtx.check_architectures([86, 87])


def test_without_the_wheels_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(rtx.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r'pip install "vlseg\[rtx\]"'):
        rtx.load()


@needs_rtx
def test_libraries_and_bindings_must_be_of_one_version(monkeypatch):
    other = SimpleNamespace(__version__="1.6.0.9")
    monkeypatch.setattr(rtx.importlib, "import_module", lambda name: other)
    with pytest.raises(EngineError, match=r"libraries of 1\.7\.1 and bindings of 1\.6\.0\.9"):
        rtx.load()


def bundle(toy_bundle, **changes) -> Manifest:
    """Give the toy bundle an index of engines, and seal it again."""
    manifest = Manifest.load(toy_bundle)
    (toy_bundle / "rtx").mkdir()
    entries = {}
    for part, file in manifest.parts.items():
        names = {"plan": f"rtx/{part}.plan", "context": f"rtx/{part}.onnx"}
        for name in names.values():
            (toy_bundle / name).write_bytes(b"built")
        facts = {"architectures": [80, 86], "left_out": {"75": rtx.TURING}, "version": "1.7.1", "bytes": 5}
        entries[part] = Entry(**{**names, "onnx": manifest.files[file], **facts, "seconds": 1.0, **changes})
    write_index(toy_bundle, entries)
    return manifest.save(toy_bundle)


def test_an_engine_is_opened_where_it_fits(toy_bundle):
    assert context_of(toy_bundle, Manifest.load(toy_bundle), "image", 86, "1.7.1") is None
    manifest = bundle(toy_bundle)
    assert context_of(toy_bundle, manifest, "image", 86, "1.7.1") == toy_bundle / "rtx/image.onnx"


@pytest.mark.parametrize(
    ("changes", "capability", "version", "said"),
    [
        ({}, 89, "1.7.1", r"engines for sm_80, sm_86, this GPU is sm_89: export again .*--arch 89"),
        ({}, 75, "1.7.1", r"this GPU is sm_75 \(no product of float32 .*\): export with --precision fp16"),
        ({}, 86, "1.8.0", r"built by TensorRT-RTX 1\.7\.1, 1\.8\.0 is installed"),
        ({"onnx": "0" * 64}, 86, "1.7.1", r"image part was not built from its ONNX file"),
    ],
)
def test_an_engine_of_another_card_version_or_file_is_refused(toy_bundle, changes, capability, version, said):
    manifest = bundle(toy_bundle, **changes)
    with pytest.raises(EngineError, match=said):
        context_of(toy_bundle, manifest, "image", capability, version)


def test_an_edited_engine_is_refused_by_its_hash(toy_bundle):
    bundle(toy_bundle)
    (toy_bundle / "rtx/image.plan").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"image.plan is not the file the manifest describes"):
        Manifest.load(toy_bundle)


@pytest.mark.parametrize(
    "text", ["[]", "{}nonsense", json.dumps({"image": {"plan": 1}})], ids=["list", "no json", "fields"]
)
def test_a_damaged_index_is_refused(toy_bundle, text):
    manifest = bundle(toy_bundle)
    (toy_bundle / INDEX).write_text(text)
    with pytest.raises(BundleError, match="damaged"):
        read_index(toy_bundle, manifest)


def test_an_index_that_names_a_file_outside_is_refused(toy_bundle):
    manifest = bundle(toy_bundle, plan="../image.plan")
    with pytest.raises(BundleError, match=r"lacks \.\./image\.plan"):
        read_index(toy_bundle, manifest)


def test_the_engine_says_where_there_is_no_card(toy_bundle, monkeypatch):
    monkeypatch.setattr(engine.rtx, "missing", lambda: None)
    monkeypatch.setattr(engine, "gpus", lambda: [])
    with pytest.raises(EngineError, match=r"no NVIDIA GPU answers here: use --engine onnxruntime"):
        engine.KIND.open(Part(toy_bundle, Manifest.load(toy_bundle), "image"))
    monkeypatch.setattr(engine, "gpus", lambda: [{"compute_cap": "7.5"}])
    assert "this GPU is sm_75" in str(engine.KIND.missing())


@needs_rtx
def test_the_provider_says_where_its_driver_is_absent(toy_bundle, monkeypatch):
    monkeypatch.setattr(engine, "gpus", lambda: [{"compute_cap": "8.6"}])
    with pytest.raises(EngineError, match=r"tensorrt-rtx (cannot open .*lib(cuda|nvidia)|finds no RTX card)"):
        engine.KIND.open(Part(toy_bundle, Manifest.load(toy_bundle), "image"))
