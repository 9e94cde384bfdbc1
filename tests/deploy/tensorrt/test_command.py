import json

import pytest

from vlseg.deploy.tensorrt import build as module
from vlseg.deploy.tensorrt.cuda import Cuda

from .fake_cuda import FakeCuda
from .fake_trt import FakeTensorRT


@pytest.fixture
def device(gpu, monkeypatch):
    """Let `vlseg build` find a fake Orin."""
    trt = FakeTensorRT("10.16.1.11", gpu)
    monkeypatch.setattr(module.library, "load", lambda: trt)
    monkeypatch.setattr(module, "Cuda", lambda: Cuda(gpu))
    return trt


def test_json_is_alone_on_stdout(bundle, device, door):
    said = door("build", bundle, "--batch", 1, "--batch", 2, "--json")
    assert said.code == 0, said.err
    report = json.loads(said.out)
    assert {"bundle", "device", "tensorrt", "remedies", "engines"} <= report.keys()
    keys = {"part", "batch", "built", "plugin", "ms", "graph", "bytes", "seconds", "plugins", "parity"}
    assert len(report["engines"]) == 6 and all(keys <= row.keys() for row in report["engines"])
    assert "building the image engine for batch 2" in said.err and "step 3/3" in said.err


def test_a_table_for_people(bundle, device, door):
    said = door("build", bundle)
    assert said.code == 0 and "Orin (sm_87), TensorRT 10.16.1.11" in said.out
    assert [line.split()[:3] for line in said.out.splitlines()[2:]] == [
        [part, "1", "now"] for part in ("image", "text", "decoder")
    ]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--level", 9), "--level 9 does not exist"),
        (("--plugins", "perhaps"), "no way 'perhaps' for our kernels; known: measure, on, off"),
        (("--batch", 0), "--batch 0 is no size"),
        (("--plugins", "on"), "our kernels cannot be in the image engine"),
    ],
)
def test_bad_input_is_one_sentence(bundle, device, door, words, sentence):
    said = door("build", bundle, *words)
    assert said.code == 2 and sentence in said.err and not said.out and "Traceback" not in said.err


def test_without_tensorrt(bundle, door, monkeypatch):
    monkeypatch.setattr(module.library, "_there", lambda name: False)
    said = door("build", bundle)
    assert said.code == 2 and "TensorRT is not installed" in said.err and not said.out


def test_without_a_gpu(bundle, device, door, monkeypatch):
    monkeypatch.setattr(module, "Cuda", lambda: Cuda(FakeCuda(absent=True)))
    said = door("build", bundle)
    assert said.code == 2 and "CUDA finds no GPU" in said.err
