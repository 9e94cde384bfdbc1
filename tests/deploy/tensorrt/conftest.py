"""A bundle with stored answers, and TensorRT and CUDA that run it without a GPU."""

import pytest

from vlseg.deploy.manifest import Manifest
from vlseg.deploy.tensorrt import prove
from vlseg.deploy.tensorrt.answers import write_answers
from vlseg.deploy.tensorrt.cuda import Cuda

from .fake_cuda import FakeCuda
from .fake_trt import FakeTensorRT


def with_answers(folder):
    """Give a bundle the answers that engines are held to."""
    manifest = Manifest.load(folder)
    write_answers(folder, manifest)
    manifest.save(folder)
    return folder


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch):
    """Engines that run on a CPU need not be timed well."""
    monkeypatch.setattr(prove, "ROUNDS", 3)
    monkeypatch.setattr(prove, "WARMUP", 1)


@pytest.fixture
def bundle(toy_bundle):
    return with_answers(toy_bundle)


@pytest.fixture
def gpu():
    """A fake GPU; `Cuda(gpu)` is what the product takes."""
    return FakeCuda()


@pytest.fixture
def trt(gpu):
    return FakeTensorRT("10.16.1.11", gpu)


@pytest.fixture
def cuda(gpu):
    return Cuda(gpu)
