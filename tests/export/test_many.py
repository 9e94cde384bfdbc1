"""Several runs as one bundle: what they share once, each answer its own."""

import numpy as np
import onnx
import pytest

from vlseg.deploy.adapters import read_adapter
from vlseg.deploy.errors import UserError
from vlseg.deploy.manifest import Manifest
from vlseg.deploy.segmenter import Segmenter
from vlseg.export import many
from vlseg.export.many import differing, export_many, overridable, parse_adapters
from vlseg.export.parity import torch_segmenter
from vlseg.train.models.methods import build_model
from vlseg.train.models.runs import load_run, save_run


def write_run(folder, seed=0, method="clipseg/dense-vl", threshold=0.5):
    """Write a run of random adapters on the random backbone of 32 pixels."""
    folder.mkdir(parents=True)
    model = build_model(method, "nano", weights="random", seed=seed)
    info = {"method": method, "size": "nano", "weights": "random", "options": {}, "threshold": threshold}
    save_run(folder, model, info)
    return folder


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A bundle of two runs, and the runs."""
    root = tmp_path_factory.mktemp("many")
    runs = {"polyp": write_run(root / "polyp", 1, threshold=0.3), "skin": write_run(root / "skin", 2)}
    report = export_many(runs, root / "bundle")
    return root / "bundle", runs, report


@pytest.mark.slow
def test_each_adapter_answers_as_its_own_run(several, picture):
    folder, runs, report = several
    answers = {}
    with Segmenter.open(folder, engine="onnxruntime") as model:
        for name, run in runs.items():
            model.use(name)
            answers[name] = model.logits(picture, "a round spot")
            expected = torch_segmenter(load_run(run)[0], model.manifest).logits(picture, "a round spot")
            assert np.abs(answers[name] - expected).max() < 1e-3 * expected.std()
            assert report["adapters"][name]["parity"]["passed"]
        assert model.manifest.threshold == 0.5
    assert np.abs(answers["polyp"] - answers["skin"]).max() > 1e-2 * answers["skin"].std()


@pytest.mark.slow
def test_the_first_answers_before_any_is_chosen(several, picture):
    folder = several[0]
    with Segmenter.open(folder, engine="onnxruntime") as model:
        before = model.logits(picture, "spot")
        assert model.manifest.threshold == 0.3
        model.use("polyp")
        assert np.array_equal(model.logits(picture, "spot"), before)


@pytest.mark.slow
def test_the_backbone_is_there_once_and_adapters_are_small(several):
    folder, _, report = several
    manifest = Manifest.load(folder)
    trained = {name: read_adapter(folder, manifest, name) for name in manifest.adapters}
    names = {name for arrays in trained["polyp"].values() for name in arrays}
    assert names and all("graft" in name for name in names)
    model = build_model("clipseg/dense-vl", "nano", weights="random")
    own = sum(p.numel() for p in model.parameters() if p.requires_grad)
    for name, parts in trained.items():
        assert sum(array.size for arrays in parts.values() for array in arrays.values()) == own
        assert report["adapters"][name]["bytes"] == 4 * own
    graph = onnx.load(folder / "image.onnx").graph
    constants = {one.name for one in graph.initializer}
    assert {value.name for value in graph.input} & constants == set(trained["skin"]["image"])


@pytest.mark.slow
def test_runs_that_do_not_fit_together(several, tmp_path):
    runs = several[1]
    other = write_run(tmp_path / "other", method="clipseg/shallow-vlc")
    with pytest.raises(UserError, match=r"polyp and other do not fit into one bundle \(method is"):
        export_many({"polyp": runs["polyp"], "other": other}, tmp_path / "bundle")
    with pytest.raises(UserError, match="int8 has ranges that fit one adapter"):
        export_many(runs, tmp_path / "bundle", precision="int8")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.slow
def test_graphs_may_differ_in_constants_alone(several):
    model = onnx.load(several[0] / "decoder.onnx")
    other = onnx.ModelProto()
    other.CopyFrom(model)
    assert differing("decoder", {"a": model, "b": other}) == []
    other.graph.node[0].name = "renamed"
    with pytest.raises(UserError, match="the decoder graphs of a and b differ"):
        differing("decoder", {"a": model, "b": other})
    other.CopyFrom(model)
    other.graph.initializer[0].dims[:] = [*other.graph.initializer[0].dims, 1]
    with pytest.raises(UserError, match="differ in shape"):
        differing("decoder", {"a": model, "b": other})


@pytest.mark.slow
def test_twins_are_told(monkeypatch, several, tmp_path):
    monkeypatch.setattr(many, "differing", lambda part, models: [])
    monkeypatch.setattr(many, "pack", lambda model, info, folder, options, tell: Manifest.load(several[0]))
    monkeypatch.setattr(many, "_load", lambda folder, manifest: {})
    with pytest.raises(UserError, match="polyp, skin are one and the same"):
        export_many(several[1], tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.slow
def test_an_overridable_constant_is_valid_onnx(several):
    model = onnx.load(several[0] / "decoder.onnx")
    name = model.graph.initializer[0].name
    onnx.checker.check_model(overridable(model, [name]), full_check=True)


@pytest.mark.parametrize("words", [["skin"], ["skin="], ["a/b=run"], ["a=x", "a=y"]])
def test_adapters_are_named_runs(words):
    with pytest.raises(UserError, match=r"--adapter|choose another"):
        parse_adapters(words)


@pytest.mark.slow
def test_the_door_refuses_what_is_for_one_run(door, several, tmp_path):
    runs = several[1]
    words = ["export", runs["polyp"], tmp_path / "b", "--adapter", f"skin={runs['skin']}"]
    assert "--fixed-prompt is for one run" in door(*words, "--fixed-prompt", "polyp").err
    assert "--target is for one run" in door(*words, "--target", "tensorrt-rtx").err
    said = door("export", runs["polyp"], tmp_path / "b", "--adapter", f"polyp={runs['skin']}")
    assert said.code == 2 and "would be there twice" in said.err
