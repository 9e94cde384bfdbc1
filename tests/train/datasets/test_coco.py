import json

import numpy as np
import pytest

from vlseg.deploy.annotations import read_pair, read_split
from vlseg.deploy.errors import UserError
from vlseg.train.datasets.coco import draw_polygons
from vlseg.train.datasets.convert import convert


def noise(seed, height=20, width=24):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def coco(*annotations, names=("a.png",)):
    images = [{"id": i, "file_name": name, "height": 20, "width": 24} for i, name in enumerate(names)]
    categories = [{"id": 7, "name": "liver"}, {"id": 9, "name": "Large Vessel"}]
    return json.dumps({"images": images, "annotations": list(annotations), "categories": categories})


def polygon(category, *corners, image=0):
    return {"image_id": image, "category_id": category, "segmentation": [list(corners)]}


def test_objects_of_a_category_become_one_mask(lay, tmp_path):
    source = lay(
        {
            "annotations/instances_train2017.json": coco(
                polygon(7, 2, 2, 6, 2, 6, 6, 2, 6), polygon(7, 10, 10, 14, 10, 14, 14, 10, 14),
                {"image_id": 0, "category_id": 9, "segmentation": {"size": [20, 24], "counts": [0, 5, 475]}},
                names=("a.png", "lonely.png"),
            ),
            "annotations/instances_val2017.json": coco(polygon(9, 0, 0, 3, 0, 3, 3), names=("b.png",)),
            "train2017/a.png": noise(0), "val2017/b.png": noise(1),
        }
    )  # fmt: skip
    report = convert("coco", source, tmp_path / "out")
    assert report["samples"] == {"train": 2, "val": 1} and report["images"] == 2
    liver, vessel = read_split(tmp_path / "out", "train")
    assert liver.prompts == {"p0": "", "p1": "liver"} and vessel.mask.name == "a_large_vessel.png"
    expected = np.zeros((20, 24), bool)
    expected[2:7, 2:7] = expected[10:15, 10:15] = True
    np.testing.assert_array_equal(read_pair(liver)[1], expected)
    assert read_pair(vessel)[1][:5, 0].all() and read_pair(vessel)[1].sum() == 5


def test_a_file_without_a_split_is_dealt_out(lay, tmp_path):
    names = [f"{i}.png" for i in range(20)]
    content = coco(*(polygon(7, 1, 1, 9, 1, 9, 9, image=i) for i in range(20)), names=names)
    source = lay({"data.json": content} | {name: noise(i) for i, name in enumerate(names)})
    assert convert("coco", source, tmp_path / "out")["samples"] == {"train": 16, "val": 2, "test": 2}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (coco(polygon(7, 1, 1, 5, 1, 5, 5), names=("gone.png",)), "gone.png"),
        (coco(polygon(8, 1, 1, 5, 1, 5, 5)), "broken annotation"),
        (coco({"image_id": 0, "category_id": 7, "segmentation": {"size": [4, 4], "counts": [16]}}), "20"),
        (coco({"image_id": 0, "category_id": 7, "segmentation": [["x"]]}), "broken annotation"),
        ('{"images": [{}], "annotations": [{}], "categories": [{}]}', "not COCO"),
        ("[]", "no COCO annotations"),
    ],
)
def test_bad_annotations(lay, tmp_path, content, says):
    with pytest.raises(UserError, match=says):
        convert("coco", lay({"val.json": content, "a.png": noise(0)}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_outline_belongs_to_a_polygon():
    mask = draw_polygons([[0, 0, 23, 0, 23, 19, 0, 19]], 20, 24)
    assert mask.all()
