"""Many adapters, one bundle: the toy's words mean other colours with another adapter, and nothing is opened again."""

import json

import numpy as np
import pytest
from PIL import Image

from vlseg.deploy.adapters import file_of
from vlseg.deploy.errors import BundleError, EngineError, UserError
from vlseg.deploy.manifest import Manifest
from vlseg.deploy.metrics import dice
from vlseg.deploy.segmenter import Segmenter


def test_an_adapter_changes_the_answers_and_its_threshold(adapters, colours):
    image, masks = colours
    with Segmenter.open(adapters, engine="onnxruntime") as model:
        assert dice(model.segment(image, "red"), masks["red"]) > 0.85
        model.use("swapped")
        assert dice(model.segment(image, "red"), masks["green"]) > 0.85
        assert model.manifest.threshold == 0.4 and model.manifest.training == {"val": {"dice": 0.4}}
        model.use("plain")
        assert dice(model.segment(image, "red"), masks["red"]) > 0.85 and model.manifest.threshold == 0.5


def test_nothing_that_another_adapter_made_is_remembered(adapters, colours):
    with Segmenter.open(adapters, engine="onnxruntime") as model:
        first = model.logits(colours[0], "green")
        model.use("swapped")
        assert not np.array_equal(model.logits(colours[0], "green"), first)


def test_an_adapter_that_is_none_names_those_that_are(adapters, fixed_bundle):
    with (
        Segmenter.open(adapters) as model,
        pytest.raises(UserError, match=r"toy has no adapter 'polyp'; it has plain, swapped"),
    ):
        model.use("polyp")
    with Segmenter.open(fixed_bundle) as model, pytest.raises(UserError, match="it has none"):
        model.use("plain")


def test_an_engine_that_has_its_weights_for_good_says_so(adapters, colours):
    with Segmenter.open(adapters, engine="onnxruntime") as model:
        model.engine_of("text").swaps = False
        before = model.logits(colours[0], "red")
        with pytest.raises(
            EngineError, match=r"onnxruntime cannot change to adapter 'swapped', its weights are built in"
        ):
            model.use("swapped")
        assert np.array_equal(model.logits(colours[0], "red"), before)


def test_a_damaged_adapter_is_refused(adapters):
    path, today = adapters / file_of("swapped"), Manifest.load(adapters)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(BundleError, match="hash differs"):
        Manifest.load(adapters)
    # a seal on damaged goods, as a faulty exporter would set it
    today.save(adapters)
    with Segmenter.open(adapters, engine="onnxruntime") as model, pytest.raises(BundleError, match="cannot be read"):
        model.use("swapped")


@pytest.mark.parametrize("name", ["", "../polyp", "a/b", ".hidden", "a b"])
def test_a_name_that_would_be_a_path_is_refused(name):
    with pytest.raises(UserError, match="choose another"):
        file_of(name)


def test_an_adapter_is_chosen_at_the_door(door, adapters, fixed_bundle, toy_data, colours, tmp_path):
    image, masks = colours
    Image.fromarray(image).save(tmp_path / "x.png")
    words = ("segment", adapters, tmp_path / "x.png", "--prompt", "red")
    for name, colour in ((None, "red"), ("swapped", "green")):
        out = tmp_path / f"{colour}.png"
        said = door(*words, "--out", out, *(("--adapter", name) if name else ()))
        assert said.code == 0, said.err
        assert dice(np.asarray(Image.open(out)) > 0, masks[colour]) > 0.85
    said = door(*words, "--out", tmp_path / "no.png", "--adapter", "polyp")
    assert said.code == 2 and "no adapter 'polyp'; it has plain, swapped" in said.err
    said = door("segment", fixed_bundle, tmp_path / "x.png", "--prompt", "red", "--out", tmp_path / "no.png",
                "--adapter", "plain")  # fmt: skip
    assert said.code == 2 and "it has none" in said.err and not (tmp_path / "no.png").exists()
    plain = json.loads(door("evaluate", adapters, "--data", toy_data, "--no-hd95", "--json").out)
    other = json.loads(
        door("evaluate", adapters, "--data", toy_data, "--no-hd95", "--json", "--adapter", "swapped").out
    )
    assert "adapter" not in plain and other["adapter"] == "swapped"
    assert other["mean"]["dice"] != plain["mean"]["dice"]


def test_a_run_is_its_own_adapter(door, toy_data, tmp_path):
    (tmp_path / "run.json").write_text("{}")
    said = door("evaluate", tmp_path, "--data", toy_data, "--adapter", "skin", "--no-hd95")
    assert said.code == 2 and "leave --adapter skin out" in said.err
