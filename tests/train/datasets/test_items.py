from pathlib import Path

import pytest

from vlseg.deploy.errors import UserError
from vlseg.train.datasets.items import Item, slug, split_in, with_splits


def item(name, group=None, split=None):
    return Item(Path(f"{name}.png"), name, group or name, tuple, split)


def count(items):
    return {split: sum(item.split == split for item in items) for split in ("train", "val", "test")}


def test_a_split_is_made_of_groups_and_is_always_the_same():
    items = [item(f"{p}-{i}", f"patient{p}") for p in range(50) for i in range(3)]
    dealt = with_splits(items)
    assert count(dealt) == {"train": 120, "val": 15, "test": 15}
    assert all(len({x.split for x in dealt if x.group == g}) == 1 for g in {x.group for x in items})
    of = {x.name: x.split for x in dealt}
    assert {x.name: x.split for x in with_splits(items[::-1])} == of


def test_what_is_said_stays_and_a_missing_val_comes_from_train():
    said = [item(f"a{i}", split="train") for i in range(90)] + [item(f"b{i}", split="test") for i in range(30)]
    assert count(with_splits(said)) == {"train": 81, "val": 9, "test": 30}
    whole = [item("a", split="train"), item("b", split="val")]
    assert with_splits(whole) == whole
    with pytest.raises(UserError, match="too few for train and val and test"):
        with_splits([item("a"), item("b")])
    with pytest.raises(UserError, match="all or none"):
        with_splits([item("a", split="train"), item("b")])


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("annotations/instances_train2017.json", "train"),
        ("instances_val2017.json", "val"),
        ("valid/_annotations.coco.json", "val"),
        ("train/labels/test/0001.txt", "test"),
        ("labels/trainer.txt", None),
        ("Testing/x.png", "test"),
        ("all.json", None),
    ],
)
def test_a_path_names_its_split(path, split):
    assert split_in(path) == split


def test_words_become_a_file_name():
    assert slug("Traffic light / 2") == "traffic_light_2"
