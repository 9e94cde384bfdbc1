"""Model cards: what they say, what they never say, and that runs and bundles carry them."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from vlseg.deploy.manifest import MANIFEST, Manifest
from vlseg.deploy.segmenter import Segmenter
from vlseg.train.models.card import CARD, CHANCE, DRAWN, LICENCES, UNKNOWN, bundle_card, run_card

INFO = {
    "method": "clipseg/dense-vl", "size": "tiny", "weights": None, "weights_hash": "ab" * 32, "prompt": "p1",
    "data": "polyps", "images": {"train": 800, "val": 100, "test": 100}, "trained_parameters": 105920,
    "threshold": 0.45, "created": "2026-01-02T03:04:05+00:00", "image_size": 176,
    "metrics": {
        "val": {"dice": 0.71234},
        "test": {"dice": 0.70123, "iou": 0.6, "hd95": 31.25, "n": 100, "hd95_one_empty": 3},
    },
}  # fmt: skip


def test_it_says_what_was_trained_on_what_and_how_well():
    card = run_card(INFO)
    for words in (
        "# clipseg/dense-vl, trained on polyps", "not a medical device", "105,920", "VLSM-Adapter, arXiv 2405.06196",
        "800 train, 100 val, 100 test", "prompt key `p1`", "| val | 100 | 0.712 | - | - |",
        "| test | 100 | 0.701 | 0.600 | 31.2 |", "probability 0.45", "In 3 of 100 test images", DRAWN, "2026-01-02",
    ):  # fmt: skip
        assert words in card, words
    assert "03:04" not in card


def test_the_hub_can_read_its_head():
    head = yaml.safe_load(run_card(INFO | {"size": "base"}).split("---")[1])
    assert head["library_name"] == "vlseg" and head["pipeline_tag"] == "image-segmentation"
    assert head["base_model"] == "CIDAS/clipseg-rd64-refined" and "license" not in head  # the trained part is yours
    assert "base_model" not in yaml.safe_load(run_card(INFO).split("---")[1])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": "base"}, LICENCES["CIDAS/clipseg"]),
        ({"method": "sam/lga", "size": "base"}, LICENCES["facebook/sam-vit"]),
        ({"weights": "/home/ada/weights"}, UNKNOWN),
        ({"weights": "random"}, CHANCE),
        ({"method": "sam/lga"}, CHANCE),
        ({"metrics": {"val": {"dice": 0.5}}}, "No test image was looked at"),
        ({"metrics": {}}, "None were recorded"),
    ],
)
def test_what_it_says_of_weights_and_limits(changes, words):
    assert words in run_card(INFO | changes)


def test_a_network_that_trains_whole_is_not_called_frozen():
    card = run_card(INFO | {"method": "image/unet", "trained_parameters": 1625420})
    assert "1,625,420" in card and "Frozen weights" not in card and "frozen" not in card


def test_nothing_private_is_in_it():
    info = INFO | {"weights": "/home/ada/weights", "data": "../ada\n# lovelace|`x`", "options": {"phrase": "secret"}}
    card = run_card(info)
    assert not [word for word in ("/home", "\n# lovelace", "`x`", "secret", "|`") if word in card]
    assert "lovelace" in card  # the data set's name, made harmless


def test_a_run_carries_its_card(trained_run):
    card = (trained_run / CARD).read_text()
    info = json.loads((trained_run / "run.json").read_text())
    assert "trained on clinic" in card and f"{info['metrics']['test']['dice']:.3f}" in card and CHANCE in card
    names = {path.stem for path in (trained_run.parent.parent).rglob("train_*.png")}
    assert str(trained_run) not in card and not [name for name in names if name in card]


def test_a_bundle_carries_its_card_hashed(walked):
    bundle = walked.out / "bundle"
    card, manifest = (bundle / CARD).read_text(), Manifest.load(bundle)
    assert CARD in manifest.files and "exported as a bundle" in card
    assert f"Dice {manifest.parity['dice_min']:.5f} or more" in card
    assert str(Path.cwd()) not in card and not re.search(r"(train|val|test)_\d", card)


def test_an_older_bundle_without_one_opens(walked, tmp_path):
    bundle = shutil.copytree(walked.out / "bundle", tmp_path / "bundle")
    (bundle / CARD).unlink()
    Manifest.load(walked.out / "bundle").save(bundle)
    assert CARD not in json.loads((bundle / MANIFEST).read_text())["files"]
    with Segmenter.open(bundle) as segmenter:
        assert segmenter.manifest.method == "clipseg/dense-vl"


def test_several_adapters_are_told_one_by_one():
    manifest = Manifest("many", "clipseg/dense-vl", "tiny", 176, (0.5,) * 3, (0.5,) * 3)  # type: ignore[arg-type]
    card = bundle_card(manifest, {"polyp": INFO, "skin": INFO | {"data": "moles"}})
    assert "# Adapter polyp" in card and "# Adapter skin" in card and "trained on polyps, moles" in card
    assert card.count("Data set: ") == 2 and card.count(DRAWN) == 1 and "No proof of parity" in card


def test_a_frozen_bundle_is_said_to_be_trained_on_nothing():
    manifest = Manifest("base", "clipseg/frozen", "tiny", 176, (0.5,) * 3, (0.5,) * 3)  # type: ignore[arg-type]
    card = bundle_card(manifest, {"base": {"method": "clipseg/frozen", "size": "tiny"}})
    assert "nothing of it trained here" in card and "Trained parameters: none." in card and DRAWN in card
    assert "## Data" not in card and "it was trained on" not in card and "date not recorded" in card
