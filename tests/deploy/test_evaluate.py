import json
import sys

import numpy as np
import pytest
from PIL import Image

from vlseg.deploy import metrics
from vlseg.deploy.annotations import read_pair, read_split
from vlseg.deploy.errors import UserError
from vlseg.deploy.evaluate import evaluate, score
from vlseg.deploy.segmenter import Segmenter


@pytest.fixture
def segmenter(toy_bundle):
    with Segmenter.open(toy_bundle, threads=1) as opened:
        yield opened


def run(segmenter, data, prompt="p1", split="test", **options):
    return evaluate(segmenter, read_split(data, split), prompt, data=data.name, split=split, **options)


def test_the_report(segmenter, toy_data):
    seen = []
    report = run(segmenter, toy_data, progress=lambda done, total: seen.append((done, total)))
    assert {"data", "split", "prompt", "n", "mean", "hd95_one_empty", "images"} <= set(report)
    assert (report["data"], report["split"], report["prompt"], report["n"]) == ("data", "test", "p1", 4)
    assert [image["name"] for image in report["images"]] == ["case0", "case1", "case2", "case3"]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    for name in ("dice", "iou", "hd95"):
        assert report["mean"][name] == pytest.approx(np.mean([image[name] for image in report["images"]]))
    assert report["mean"]["dice"] > 0.9 and report["hd95_one_empty"] == 0
    # Nothing is blue, and nothing is found: full agreement.
    assert report["images"][3] == {"name": "case3", "dice": 1.0, "iou": 1.0, "hd95": 0.0}


def test_figures_are_those_of_the_masks(segmenter, toy_data):
    report = run(segmenter, toy_data, threshold=0.8)
    for sample, row in zip(read_split(toy_data, "test"), report["images"], strict=True):
        image, true = read_pair(sample)
        pred = segmenter.segment(image, sample.prompts["p1"], 0.8)
        assert row["dice"] == metrics.dice(pred, true) and row["hd95"] == metrics.hd95(pred, true)
    assert report["threshold"] == 0.8


def test_images_with_one_empty_mask_are_counted(segmenter, toy_data):
    path = toy_data / "masks" / "case1.png"
    Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    report = run(segmenter, toy_data)
    assert report["hd95_one_empty"] == 1
    assert report["images"][1] == {"name": "case1", "dice": 0.0, "iou": 0.0, "hd95": np.hypot(33, 51)}


def test_without_hd95(segmenter, toy_data, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(UserError, match=r'pip install "vlseg\[score\]"'):
        run(segmenter, toy_data)
    report = run(segmenter, toy_data, hd95=False)
    assert report["mean"]["hd95"] is None and report["images"][0]["hd95"] is None
    assert report["mean"]["dice"] > 0.9


def test_alternatives_are_chosen_alike_every_time(segmenter, toy_data):
    assert run(segmenter, toy_data, "p2") == run(segmenter, toy_data, "p2")
    assert run(segmenter, toy_data, "random")["n"] == 4


def test_bad_input(segmenter, toy_data):
    with pytest.raises(UserError, match="no prompt key 'p9'; known: p0, p1, p2, random"):
        run(segmenter, toy_data, "p9")
    with pytest.raises(UserError, match="no samples in split 'test'"):
        evaluate(segmenter, [], "p1", data="data", split="test")
    (toy_data / "images" / "case2.png").write_bytes(b"x")
    with pytest.raises(UserError, match=r"case2\.png"):
        run(segmenter, toy_data)


def test_score_of_one_image():
    mask = np.eye(5, dtype=bool)
    assert score(mask, mask) == {"dice": 1.0, "iou": 1.0, "hd95": 0.0}
    assert score(mask, mask, hd95=False) == {"dice": 1.0, "iou": 1.0, "hd95": None}
