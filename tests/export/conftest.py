import numpy as np
import pytest

from vlseg.export.bundle import Options, export_model
from vlseg.train.models.methods import build_model


@pytest.fixture(scope="session")
def info():
    return {"method": "clipseg/dense-vlc", "size": "nano", "weights": "random", "options": {}}


@pytest.fixture(scope="session")
def nano():
    return build_model("clipseg/dense-vlc", "nano")


@pytest.fixture(scope="session")
def exported(nano, info, tmp_path_factory):
    """What `export_model` returned for a nano model with every fold, and the bundle's folder."""
    folder = tmp_path_factory.mktemp("export") / "bundle"
    trained = {"threshold": 0.4, "metrics": {"val": {"dice": 0.5, "worst": "patient-7.png"}, "data": "/home/someone"}}
    steps = []
    report = export_model(nano, info | trained, folder, Options(folds="all"), progress=steps.append)
    return report, folder, steps


@pytest.fixture
def same_graphs(exported, monkeypatch):
    """Let the exporter answer with the graphs of the session's bundle: packing is tested, not exporting again."""
    import onnx

    from vlseg.export import bundle

    _, folder, _ = exported
    files = {"image_embedding": "image.onnx", "text_embedding": "text.onnx", "logits": "decoder.onnx"}
    monkeypatch.setattr(bundle, "to_onnx", lambda source, opset: onnx.load(folder / files[source.outputs[0]]))


@pytest.fixture
def picture():
    return np.random.default_rng(1).integers(0, 256, (41, 53, 3), dtype=np.uint8)
