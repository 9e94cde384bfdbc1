import json

import numpy as np
import pytest

from vlseg.deploy.engines import trt as engine_of
from vlseg.deploy.segmenter import Segmenter
from vlseg.deploy.tensorrt.build import Options, build
from vlseg.deploy.tensorrt.cuda import Cuda

from .fake_cuda import FakeCuda
from .fake_trt import VERSIONS, FakeTensorRT


@pytest.mark.parametrize("version", VERSIONS)
def test_one_code_path_for_every_version(bundle, version):
    """A whole build asks each version for nothing but what its bindings have, and all of it is given back."""
    gpu = FakeCuda()
    trt, heard = FakeTensorRT(version, gpu), []
    report = build(bundle, Options(batches=(1, 2)), say=heard.append, trt=trt, cuda=Cuda(gpu))
    assert json.loads(json.dumps(report)) == report
    assert [(row["part"], row["batch"], row["built"]) for row in report["engines"]] == [
        (part, batch, True) for part in ("image", "text", "decoder") for batch in (1, 2)
    ]
    assert all(row["parity"]["passed"] and row["graph"] and row["ms"] > 0 for row in report["engines"])
    assert report["tensorrt"] == version and report["device"]["capability"] == 87
    assert gpu.alive() == 0, "an engine was not given back"
    assert trt.built[0]["shapes"]["pixel_values"] == [1, 3, 16, 16]
    assert {tuple(one["shapes"].get("input_ids", ())) for one in trt.built} == {(), (1, 77), (2, 77)}
    assert not any(trt.BuilderFlag.TF32 in one["flags"] for one in trt.built)


def opened(bundle, trt, cuda, monkeypatch):
    monkeypatch.setattr(engine_of.library, "missing", lambda: None)
    monkeypatch.setattr(engine_of, "gpus", lambda: [{"name": "Orin"}])
    monkeypatch.setattr(engine_of.library, "load", lambda: trt)
    monkeypatch.setattr(engine_of, "Cuda", lambda: cuda)
    return Segmenter.open(bundle, engine="tensorrt")


def test_the_segmenter_runs_on_what_was_built(bundle, trt, cuda, gpu, colours, monkeypatch):
    build(bundle, Options(batches=(1, 2)), trt=trt, cuda=cuda)
    image, masks = colours
    with opened(bundle, trt, cuda, monkeypatch) as found, Segmenter.open(bundle, engine="onnxruntime") as expected:
        assert found.engine == "tensorrt"
        for prompt in ("red", "green spot", "a blue round one"):
            np.testing.assert_allclose(
                found.logits(image, prompt), expected.logits(image, prompt), rtol=1e-5, atol=1e-5
            )
        np.testing.assert_array_equal(found.segment(image, "red"), expected.segment(image, "red"))
    assert gpu.alive() == 0
