import numpy as np
import pytest

from vlseg.deploy.annotations import read_pair, read_split
from vlseg.deploy.errors import UserError
from vlseg.train.datasets.convert import convert


def noise(seed, height=20, width=24):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


YAML = "path: .\ntrain: images/train\nnames:\n  0: cyst\n  1: gall bladder\n"
SQUARE = "0 0.25 0.25 0.5 0.25 0.5 0.5 0.25 0.5"


def test_polygons_become_masks(lay, tmp_path):
    source = lay(
        {
            "data.yaml": YAML,
            "images/train/a.jpg": noise(0, 40, 80), "labels/train/a.txt": SQUARE + "\n1 0 0 1 0 1 0.1 0 0.1\n\n",
            "valid/images/b.png": noise(1), "valid/labels/b.txt": SQUARE,
            "images/train/background.jpg": noise(2), "images/train/empty.JPG": noise(3), "labels/train/empty.txt": "",
        }
    )  # fmt: skip
    report = convert("yolo", source, tmp_path / "out")
    assert report["samples"] == {"train": 2, "val": 1}
    cyst, bladder = read_split(tmp_path / "out", "train")
    assert (cyst.prompts["p1"], bladder.prompts["p1"]) == ("cyst", "gall bladder")
    expected = np.zeros((40, 80), bool)
    expected[10:21, 20:41] = True
    np.testing.assert_array_equal(read_pair(cyst)[1], expected)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"val/labels/a.txt": "0 0.5 0.5 0.2 0.2"}, "is a box"),
        ({"val/labels/a.txt": "7 0 0 1 0 1 1"}, "class 7 has no name"),
        ({"val/labels/a.txt": "0 0 0 2 0 1 1"}, "between 0 and 1"),
        ({"val/labels/a.txt": "0 0 0 1 0 1"}, "pairs of numbers"),
        ({"val/labels/a.txt": "0 0 0 x 0 1 1"}, "pairs of numbers"),
        ({"val/labels/b.txt": SQUARE}, "have no image"),
        ({"data.yaml": "nc: 2"}, "no names"),
        ({"data.yaml": "a: ]"}, "cannot read"),
        ({}, "no labels"),
    ],
)
def test_bad_labels(lay, tmp_path, files, says):
    source = lay({"data.yaml": "names: [cyst]", "val/images/a.png": noise(0)} | files)
    with pytest.raises(UserError, match=says):
        convert("yolo", source, tmp_path / "out")


def test_names_are_needed(lay, tmp_path):
    with pytest.raises(UserError, match=r"no data\.yaml"):
        convert("yolo", lay({"images/a.png": noise(0), "labels/a.txt": SQUARE}), tmp_path / "out")
