import numpy as np
import pytest

from vlseg.deploy.annotations import read_pair, read_split
from vlseg.deploy.errors import UserError
from vlseg.train.datasets.convert import convert


def noise(seed, height=20, width=24):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def blob(height=20, width=24, value=255, at=(4, 5), size=(8, 9)):
    mask = np.zeros((height, width), np.uint8)
    mask[at[0] : at[0] + size[0], at[1] : at[1] + size[1]] = value
    return mask


def test_each_known_number_becomes_a_mask(lay, tmp_path):
    labels = blob(value=1) + blob(value=3, at=(14, 15), size=(4, 4))
    labels[0] = 255
    source = lay(
        {
            "classes.txt": "1 liver\n3: left kidney\n\n",
            "images/train/a.png": noise(0), "masks/train/a.png": labels,
            "images/test/b.jpg": noise(1), "masks/test/b.png": blob(value=2),
            "images/test/c.jpg": noise(2), "masks/test/c.png": blob(value=3),
            "images/val/d.jpg": noise(3), "masks/val/d.png": blob(value=1),
        }
    )  # fmt: skip
    report = convert("index-mask", source, tmp_path / "out")
    assert report["samples"] == {"train": 2, "test": 1, "val": 1} and report["images_found"] == 4
    kidney = read_split(tmp_path / "out", "train")[1]
    assert kidney.mask.name == "a_left_kidney.png" and kidney.prompts["p1"] == "left kidney"
    np.testing.assert_array_equal(read_pair(kidney)[1], labels == 3)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, r"no classes\.txt"),
        ({"classes.txt": "liver\n"}, "not a list"),
        ({"classes.txt": "1 liver", "images/val/b.png": noise(1)}, r"1 of 2 images have no mask \(val/b\)"),
        ({"classes.txt": "1 liver", "masks/val/b.png": blob()}, r"1 of 2 masks have no image \(val/b\)"),
        ({"classes.txt": "9 spleen"}, "no object of a known class"),
        ({"classes.txt": "1 liver", "masks/val/a.png": blob(30, 30, 1)}, "expected equal sizes"),
        ({"classes.txt": "1 liver", "images/val/a.jpg": noise(0)}, "keep one of them"),
    ],
)
def test_bad_sources(lay, tmp_path, files, says):
    source = lay({"images/val/a.png": noise(0), "masks/val/a.png": blob(value=1)} | files)
    with pytest.raises(UserError, match=says):
        convert("index-mask", source, tmp_path / "out")
