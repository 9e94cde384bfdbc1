"""Several data folders read as one."""

import shutil

import pytest

from vlseg.deploy.errors import UserError
from vlseg.train.splits import by_set, folders_of, name_of, read_splits, set_of, sets_of


def test_samples_are_named_by_their_folder(pair, nano):
    splits = read_splits(pair, nano)
    assert {name: len(samples) for name, samples in splits.items()} == {"train": 15, "val": 6, "test": 5}
    assert [set_of(sample.name) for sample in splits["val"]] == ["shapes"] * 4 + ["dots"] * 2
    assert splits["train"][0].name == "shapes/train0" and splits["train"][0].image.parent.parent == pair[0]
    groups = by_set(splits["val"], sets_of(pair))
    assert {name: len(own) for name, own in groups.items()} == {"shapes": 4, "dots": 2}
    assert name_of(pair) == "shapes+dots"


def test_one_folder_alone_is_as_it_was(shapes, nano):
    (alone, listed) = (read_splits(data, nano) for data in (shapes, [shapes]))
    assert alone == listed and alone["train"][0].name == "train0"
    assert sets_of(shapes) == () and name_of([shapes]) == "shapes" and by_set(alone["val"], ()) == {"": alone["val"]}


def test_of_each_folder_the_same_images_as_of_one_alone(pair, nano):
    recipe = nano.replace(train_images=3, val_images=1)
    splits = read_splits(pair, recipe)
    for folder in pair:
        alone = read_splits(folder, recipe)
        for split in ("train", "val"):
            own = [one.name for one in splits[split] if set_of(one.name) == folder.name]
            assert own == [f"{folder.name}/{one.name}" for one in alone[split]]


def test_what_cannot_be_told_apart_is_refused(shapes, tmp_path, nano):
    shutil.copytree(shapes, tmp_path / "shapes")
    with pytest.raises(UserError, match="2 data folders are called shapes"):
        folders_of([shapes, tmp_path / "shapes"])
    with pytest.raises(UserError, match="one sentence"):
        read_splits([shapes, tmp_path], nano, "a square")
    (tmp_path / "dots" / "anns").mkdir(parents=True)
    with pytest.raises(UserError, match="dots has no anns"):
        read_splits([shapes, tmp_path / "dots"], nano)
