import importlib.util
import json

import numpy as np
import pytest
from PIL import Image

from vlseg.deploy.errors import UserError
from vlseg.train.datasets.check import check


def scene(seed):
    small = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((80, 64), Image.Resampling.BICUBIC)


@pytest.fixture
def data(tmp_path):
    """Make six samples: a stray pixel, an empty mask, a near-duplicate over two splits, and one image in both."""
    for part in ("images", "masks", "anns"):
        (tmp_path / part).mkdir()
    masks = np.zeros((6, 64, 80), np.uint8)
    masks[:, 10:40, 20:60] = 255
    masks[1, 0, 0] = 255
    masks[2] = 0
    for i, mask in enumerate(masks):
        scene(i).save(tmp_path / "images" / f"{i}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
    scene(0).resize((40, 32)).save(tmp_path / "images" / "4.jpg")
    (tmp_path / "images" / "4.png").unlink()
    Image.fromarray(masks[4, ::2, ::2]).save(tmp_path / "masks" / "4.png")
    names = {"train": ["0.png", "1.png", "2.png", "3.png"], "test": ["4.jpg", "5.png", "3.png"]}
    for split, listed in names.items():
        entries = [{"img_name": n, "mask_name": n.replace("jpg", "png"), "prompts": {"p1": "x"}} for n in listed]
        (tmp_path / "anns" / f"{split}.json").write_text(json.dumps(entries))
    return tmp_path


def test_what_is_wrong_is_found(data):
    seen = []
    report = check(data, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (7, 7) and report["data"] == data.name
    train = report["splits"]["train"]
    assert train["sizes"] == {"smallest": (80, 64), "largest": (80, 64), "different": 1}
    assert (train["samples"], train["images"], train["empty_masks"], train["stray_masks"]) == (4, 4, 1, 1)
    assert train["object_share"] == pytest.approx([1200 / 5120, 1200 / 5120, 1201 / 5120], abs=1e-5)
    assert report["empty"] == ["train/2.png"] and report["stray"] == [{"mask": "train/1.png", "pixels": 1}]
    assert [(pair["a"], pair["b"]) for pair in report["duplicates"]] == [("test/4", "train/0")]
    assert report["shared"] == [{"splits": ["test", "train"], "images": 1}]
    assert len(report["findings"]) == 4 and report["counts"]["duplicates"] == 1
    assert json.loads(json.dumps(report))["leaks"] == []


def test_a_bad_file_does_not_end_it(data):
    (data / "images" / "5.png").write_bytes(b"no picture")
    report = check(data)
    assert [entry["mask"] for entry in report["unreadable"]] == ["test/5.png"]
    assert report["splits"]["test"]["samples"] == 3 and "cannot be read" in report["findings"][0]


def test_a_plain_folder_and_a_clean_one(data):
    (data / "anns").rename(data / "old")
    (data / "images" / "4.jpg").rename(data / "images" / "4.jpeg")
    assert set(check(data)["splits"]) == {"train", "val", "test"}


def test_bad_input(tmp_path, data, monkeypatch):
    with pytest.raises(UserError, match="no data folder"):
        check(tmp_path / "none")
    (data / "masks" / "0.png").unlink()
    with pytest.raises(UserError, match=r"0\.png"):
        check(data)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"vlseg\[score\]"):
        check(data)
