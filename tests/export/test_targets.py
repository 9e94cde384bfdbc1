"""`--target tensorrt`: kernels inside the bundle, and engines with them or without, whichever is faster."""

import shutil
import sys

import pytest

pytest.importorskip("triton")

from vlseg.deploy.errors import EngineError, UserError
from vlseg.deploy.manifest import Manifest
from vlseg.deploy.tensorrt import plugins
from vlseg.deploy.tensorrt.answers import read_answers
from vlseg.deploy.tensorrt.build import Options as Wanted
from vlseg.deploy.tensorrt.build import build
from vlseg.deploy.tensorrt.cuda import Cuda
from vlseg.deploy.tensorrt.kernels import read_kernels
from vlseg.export import targets

from ..deploy.tensorrt.fake_cuda import FakeCuda
from ..deploy.tensorrt.fake_trt import FakePlugins, FakeTensorRT


@pytest.fixture(scope="module")
def made(exported, tmp_path_factory):
    """The nano bundle with the kernels of Orin, as `--target tensorrt` adds them, and what was said."""
    folder, heard = tmp_path_factory.mktemp("targets") / "bundle", []
    shutil.copytree(exported[1], folder)
    rows = targets.build_engines("tensorrt", folder, Manifest.load(folder), (87,), heard.append)
    Manifest.load(folder).save(folder)
    return folder, heard, rows


@pytest.fixture
def device(monkeypatch):
    """TensorRT on a fake Orin, in a process that has no plugin yet."""
    gpu = FakeCuda()
    trt = FakeTensorRT("10.16.1.11", gpu)
    trt.plugins = FakePlugins(trt)
    monkeypatch.setitem(sys.modules, "tensorrt.plugin", trt.plugins)
    monkeypatch.setattr(plugins, "_shelf", {})
    return trt, Cuda(gpu)


def test_kernels_and_answers_are_part_of_the_bundle(made):
    folder, heard, rows = made
    manifest = Manifest.load(folder)
    assert rows == [] and [sentence.split()[-1] for sentence in heard] == ["sm_87"]
    assert targets.finish("tensorrt", folder, heard.append) == []
    assert "engines are built on the device, with `vlseg build`" in heard[-1]
    assert "ptx/kernels.json" in manifest.files and "answers.npz" in manifest.files
    assert any(name.startswith("ptx/sm_87/") for name in manifest.files)
    kernels = read_kernels(folder, manifest, 87)
    assert {kernel.node for kernel in kernels} and read_kernels(folder, manifest, 110) == []
    assert all(kernel.inputs[0] == kernel.outputs[0] and ".entry" in kernel.ptx for kernel in kernels)
    assert len(read_answers(folder, manifest)["logits"]) == 2


@pytest.mark.parametrize(("slow", "kept"), [({True: 0.0, False: 2e-3}, "on"), ({True: 2e-3, False: 0.0}, "off")])
def test_the_faster_of_both_is_kept_and_named(made, device, slow, kept, monkeypatch):
    monkeypatch.setattr("vlseg.deploy.tensorrt.prove.ROUNDS", 10)
    trt, cuda = device
    trt.slow, heard = slow, []
    report = build(made[0], Wanted(again=True), say=heard.append, trt=trt, cuda=cuda)
    rows = {row["part"]: row for row in report["engines"]}
    assert rows["image"]["plugin"] == (kept == "on") and rows["image"]["plugins"]["kept"] == kept
    assert (rows["image"]["plugins"]["ratio"] < 1) == (kept == "on") and rows["image"]["plugins"]["pairs"] == 10
    assert any(f"our kernels {kept} (with / without " in sentence for sentence in heard)
    assert rows["decoder"]["plugins"] == {"tried": False, "why": "the bundle has none for sm_87 in this part"}
    assert [bool(used) for used in trt.used] == [False, True, False, True, False]
    again = build(made[0], trt=trt, cuda=cuda)
    assert not any(row["built"] for row in again["engines"]), "what was measured is not measured again"


def test_kernels_that_answer_otherwise_are_left_out(made, device):
    trt, cuda = device
    trt.wrong = {"plugins"}
    report = build(made[0], Wanted(again=True), trt=trt, cuda=cuda)
    image = report["engines"][0]
    assert not image["plugin"] and "answers otherwise than ONNX Runtime" in image["plugins"]["why"]
    with pytest.raises(EngineError, match="with our kernels answers otherwise"):
        build(made[0], Wanted(plugins="on", again=True), trt=trt, cuda=cuda)


def test_never_means_never_even_where_they_are_registered(made, device):
    trt, cuda = device
    build(made[0], Wanted(again=True), trt=trt, cuda=cuda)
    trt.used.clear()
    report = build(made[0], Wanted(plugins="off", again=True), trt=trt, cuda=cuda)
    assert trt.registered and not any(trt.used) and not any(row["plugin"] for row in report["engines"])


def test_where_plugins_cannot_be(made, device, monkeypatch):
    trt, cuda = device
    with pytest.raises(
        EngineError, match=r"our kernels cannot be in the decoder engine \(the bundle has none for sm_87"
    ):
        build(made[0], Wanted(plugins="on", again=True), trt=trt, cuda=cuda)
    old = FakeTensorRT("10.3.0", trt.cuda)
    report = build(made[0], trt=old, cuda=cuda)
    assert {row["plugins"]["why"] for row in report["engines"]} == {"TensorRT 10.3.0 takes none, 10.9 and later do"}
    assert not any(row["built"] for row in build(made[0], trt=old, cuda=cuda)["engines"])
    thor = FakeCuda("Thor", (11, 0))
    report = build(made[0], trt=FakeTensorRT("10.16.1.11", thor), cuda=Cuda(thor))
    assert "none for sm_110" in report["engines"][0]["plugins"]["why"]


@pytest.mark.parametrize(
    ("target", "architectures", "words"),
    [
        ("tensorrt", (75,), "no kernels for sm_75; known: 80, 86"),
        ("trt", (), "no target 'trt'; known: onnx, tensorrt, tensorrt-rtx"),
        ("onnx", (87,), "--arch says what is built for"),
    ],
)
def test_bad_targets(target, architectures, words):
    with pytest.raises(UserError, match=words):
        targets.check_target(target, architectures)
