import json
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from vlseg.deploy import annotations
from vlseg.deploy.annotations import Sample, choose_prompt, read_pair, read_plain, read_samples, read_split
from vlseg.deploy.errors import UserError


def edit(folder, change, split="test"):
    path = folder / "anns" / f"{split}.json"
    entries = json.loads(path.read_text())
    changed = change(entries)
    path.write_text(json.dumps(entries if changed is None else changed))


def test_a_split_in_its_order(toy_data):
    samples = read_split(toy_data, "test")
    assert [sample.name for sample in samples] == ["case0", "case1", "case2", "case3"]
    assert samples[1].image == toy_data / "images" / "case1.png"
    assert samples[1].mask == toy_data / "masks" / "case1.png"
    assert samples[1].prompts["p1"] == "green"
    assert [sample.name for sample in read_split(toy_data, "val")] == ["case2"]


def test_missing_folder(tmp_path):
    with pytest.raises(UserError, match=r"no data folder .*nowhere"):
        read_split(tmp_path / "nowhere", "test")


def test_no_annotations(tmp_path):
    with pytest.raises(UserError, match="has no anns"):
        read_split(tmp_path, "test")


def test_unknown_split_names_the_known(toy_data):
    with pytest.raises(UserError, match="no split 'tset'; known: test, train, val"):
        read_split(toy_data, "tset")


def test_a_split_cannot_leave_the_folder(toy_data):
    (toy_data / "other.json").write_text("[]")
    with pytest.raises(UserError, match="no split"):
        read_split(toy_data, "../other")


def test_empty_split(toy_data):
    edit(toy_data, lambda entries: [])
    with pytest.raises(UserError, match="empty split"):
        read_split(toy_data, "test")


@pytest.mark.parametrize("text", ["{", "[1,", "\x00"])
def test_malformed_json(toy_data, text):
    (toy_data / "anns" / "test.json").write_text(text)
    with pytest.raises(UserError, match=r"test\.json is not valid JSON"):
        read_split(toy_data, "test")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda entries: {"a": 1}, "holds a dict"),
        (lambda entries: ["case0.png"], "entry 0 is not"),
        (lambda entries: entries[2].pop("mask_name") and None, "entry 2 is not"),
        (lambda entries: entries[1].update(img_name=7), "entry 1 names a file by 7"),
        (lambda entries: entries[1].update(prompts=[]), "entry 1: prompts must"),
        (lambda entries: entries[1].update(prompts={}), "entry 1: prompts must"),
        (lambda entries: entries[1].update(prompts={"p1": []}), "entry 1: prompts must"),
        (lambda entries: entries[1].update(prompts={"p1": [1]}), "entry 1: prompts must"),
        (lambda entries: entries[1].update(img_name="none.png"), r"names 'none\.png', but there is no .*none\.png"),
        (lambda entries: entries[1].update(mask_name="none.png"), r"names 'none\.png', but there is no"),
        (lambda entries: entries[1].update(img_name="../masks/case1.png"), "which is outside"),
        (lambda entries: entries[1].update(mask_name="/etc/hostname"), "which is outside"),
        (lambda entries: entries[1].update(img_name=""), "which is outside"),
    ],
)
def test_bad_entries_say_where(toy_data, change, words):
    edit(toy_data, change)
    with pytest.raises(UserError, match=words) as caught:
        read_split(toy_data, "test")
    assert "test.json" in str(caught.value)


def test_a_link_out_is_refused(toy_data, tmp_path):
    shutil.copy(toy_data / "images" / "case0.png", tmp_path / "secret.png")
    (toy_data / "images" / "link.png").symlink_to(tmp_path / "secret.png")
    edit(toy_data, lambda entries: entries[0].update(img_name="link.png"))
    with pytest.raises(UserError, match="outside"):
        read_split(toy_data, "test")


def test_images_may_themselves_be_elsewhere(toy_data, tmp_path):
    (toy_data / "images").rename(tmp_path / "big_disk")
    (toy_data / "images").symlink_to(tmp_path / "big_disk")
    assert len(read_split(toy_data, "test")) == 4


def test_names_keep_their_sub_folder(toy_data):
    (toy_data / "images" / "a").mkdir()
    shutil.copy(toy_data / "images" / "case0.png", toy_data / "images" / "a" / "x.1.png")
    edit(toy_data, lambda entries: entries[0].update(img_name="a/x.1.png"))
    assert read_split(toy_data, "test")[0].name == "a/x.1"


def sample(**prompts):
    return Sample(None, None, prompts, "case7")


def test_a_prompt_is_chosen_always_alike():
    one = sample(p0="", p1="polyp", p2=["a", "b", "c"])
    assert choose_prompt(one, "p0") == "" and choose_prompt(one, "p1") == "polyp"
    assert {choose_prompt(one, "p2") for _ in range(9)} == {choose_prompt(one, "p2")}
    # Written down, so that a change of the hash, which would change published figures, is seen.
    assert [choose_prompt(one, "p2", seed) for seed in range(8)] == list("cbbacbab")


def test_seeds_and_names_reach_every_alternative():
    many = [choose_prompt(Sample(None, None, {"p2": list("abc")}, f"n{i}"), "p2") for i in range(600)]
    assert all(140 < count < 260 for count in Counter(many).values()) and len(set(many)) == 3
    seeds = Counter(choose_prompt(sample(p2=list("abc")), "p2", seed) for seed in range(600))
    assert all(140 < count < 260 for count in seeds.values())


def test_random_draws_any_key_but_p0():
    one = sample(p0="nothing", p1="x", p2=["y", "z"])
    drawn = Counter(choose_prompt(one, "random", seed) for seed in range(600))
    assert set(drawn) == {"x", "y", "z"} and 240 < drawn["x"] < 360
    with pytest.raises(UserError, match="no prompt but p0"):
        choose_prompt(sample(p0=""), "random")


def test_unknown_prompt_key_names_the_known():
    with pytest.raises(UserError, match="case7 has no prompt key 'p3'; known: p0, p2, p10, random"):
        choose_prompt(sample(p10="c", p0="", p2="a"), "p3")


def test_a_pair(toy_data):
    image, mask = read_pair(read_split(toy_data, "test")[1])
    assert image.shape == (33, 51, 3) and mask.shape == (33, 51) and mask.any()


def test_a_pair_of_different_sizes(toy_data):
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(toy_data / "masks" / "case0.png")
    with pytest.raises(UserError, match=r"case0\.png is 48x32 but its mask .* is 9x8"):
        read_pair(read_split(toy_data, "test")[0])


@pytest.fixture
def plain(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / "plain" / name).mkdir(parents=True)
    for i in range(23):
        Image.fromarray(np.full((4, 5, 3), i, np.uint8)).save(tmp_path / "plain" / "images" / f"s{i:02}.jpg")
        Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "plain" / "masks" / f"s{i:02}.png")
    (tmp_path / "plain" / "images" / "Thumbs.db").write_text("x")
    (tmp_path / "plain" / "images" / "._s00.jpg").write_text("x")
    return tmp_path / "plain"


def test_a_plain_folder_is_split_without_overlap(plain):
    parts = {split: [s.name for s in read_plain(plain, split, "lesion")] for split in ("train", "val", "test")}
    assert {split: len(names) for split, names in parts.items()} == {"train": 19, "val": 2, "test": 2}
    everything = [s.name for s in read_plain(plain, "all", "lesion")]
    assert sorted(name for names in parts.values() for name in names) == everything == [f"s{i:02}" for i in range(23)]
    assert parts["test"] == [s.name for s in read_samples(plain, "test", "lesion")]
    assert read_plain(plain, "val", "lesion")[0].prompts == {"p0": "", "p1": "lesion"}


def test_another_picture_moves_few_of_the_others(plain):
    before = {s.name for s in read_plain(plain, "train", "x")}
    for folder, suffix in (("images", "jpg"), ("masks", "png")):
        shutil.copy(plain / folder / f"s00.{suffix}", plain / folder / f"new.{suffix}")
    after = {s.name for s in read_plain(plain, "train", "x")}
    assert len(before - after) <= 2


@pytest.mark.parametrize(("lost", "words"), [("masks/s03.png", "no mask"), ("images/s04.jpg", "no image")])
def test_pairs_must_be_whole(plain, lost, words):
    (plain / lost).unlink()
    with pytest.raises(UserError, match=words):
        read_plain(plain, "all", "x")


def test_plain_bad_input(plain, tmp_path, toy_data):
    with pytest.raises(UserError, match="give the prompt"):
        read_samples(plain, "test")
    with pytest.raises(UserError, match="no split 'tset'; known: train, val, test, all"):
        read_plain(plain, "tset", "x")
    with pytest.raises(UserError, match="no data folder"):
        read_plain(tmp_path / "nowhere", "test", "x")
    with pytest.raises(UserError, match=r"no folder .*images"):
        read_plain(tmp_path, "test", "x")
    with pytest.raises(UserError, match="prompts of its own"):
        read_samples(toy_data, "test", "x")
    shutil.copy(plain / "images" / "s00.jpg", plain / "images" / "s00.png")
    with pytest.raises(UserError, match="same stem"):
        read_plain(plain, "all", "x")


def test_too_few_for_a_split(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / name / "only.png")
    with pytest.raises(UserError, match="has 1 images, too few"):
        read_plain(tmp_path, "train", "x")
    assert len(read_plain(tmp_path, "all", "x")) == 1


def test_digest_is_stable():
    assert annotations._digest("case7", "p2", 0) == annotations._digest("case7", "p2", 0)
    assert annotations._digest("a", "bc") != annotations._digest("ab", "c")


def test_a_report_for_each_image_of_a_plain_folder(plain):
    (plain / "reports").mkdir()
    for image in (plain / "images").iterdir():
        (plain / "reports" / f"{image.stem}.txt").write_text(f"Infection in {image.stem},\n upper left lung\n")
    for sample in read_samples(plain, "all"):
        assert sample.prompts == {"p0": "", "p1": f"Infection in {sample.name}, upper left lung"}
    assert {sample.prompts["p1"] for sample in read_plain(plain, "all", "lesion")} == {"lesion"}
    next((plain / "reports").iterdir()).unlink()
    with pytest.raises(UserError, match="expected a text file for each image, in UTF-8"):
        read_samples(plain, "all")
