"""Every mistake a user can make ends in exit code 2 and one sentence that names what was wrong."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from vlseg.train.models.runs import seal_run

NANO = ("--size", "nano", "--set", "max_epochs=1", "--set", "min_epochs=1")


def refused(said, *words: str) -> None:
    """Check how a command ended; before the one sentence there may be progress."""
    assert said.code == 2 and said.out == "", said.err
    *_, last = said.err.splitlines()
    assert last.startswith("vlseg: ") and all(word in last for word in words), said.err
    assert "Traceback" not in said.err


@pytest.fixture
def data(drawn_data, tmp_path) -> Path:
    """A copy of the drawn data that a test may spoil."""
    return shutil.copytree(drawn_data, tmp_path / "data")


def train(data: Path, *words):
    return ("train", "clipseg/dense-vl", "--data", data, "--out", data.parent / "run", *NANO, *words)


def evaluate(data: Path, run: Path, *words):
    return ("evaluate", run, "--data", data, *words)


def annotated(data: Path, split: str = "train") -> tuple[Path, Path]:
    """The image and the mask of the first entry of a split."""
    entry = json.loads((data / "anns" / f"{split}.json").read_text())[0]
    return data / "images" / entry["img_name"], data / "masks" / entry["mask_name"]


def reannotate(data: Path, split: str = "train", **changes) -> None:
    path = data / "anns" / f"{split}.json"
    first, *rest = json.loads(path.read_text())
    path.write_text(json.dumps([first | changes, *rest]))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("train", "clipseg/nope", "--data", "x", "--out", "y"), ("'clipseg/nope'", "known: clipseg/frozen")),
        (("train", "clipseg/full", "--size", "huge", "--data", "x", "--out", "y"), ("'huge'", "known: tiny")),
        (("train", "clipseg/dense-v", "--data", "x", "--out", "y", "--set", "lrr=1"), ("'lrr'", "known: method")),
        (("train", "clipseg/dense-v", "--data", "x", "--out", "y", "--set", "options.r=1"), ("'r'", "known: rank")),
        (("train", "--data", "x", "--out", "y"), ("no method", "clipseg/dense-vl")),
        (("train", "clipseg/full", "--out", "y"), ("--data", "vlseg train --help")),
        (("methods", "--nope"), ("--nope", "known: --json")),
        (("bench", "b", "--repeats", "many"), ("--repeats", "vlseg bench --help")),
        (("no-such-command",), ("no-such-command", "vlseg --help")),
        (("evaluate", "run", "--data", "nowhere"), ("nowhere",)),
        (("segment", "nowhere", "i.png", "--prompt", "p", "--out", "m.png"), ("nowhere", "vlseg export")),
        (("bench", "nowhere"), ("nowhere", "not a bundle")),
        (("export", "nowhere", "b"), ("nowhere", "is not a run")),
        (("train", "clipseg/full", "--size", "base", "--weights", "nowhere", "--data", "d", "--out", "y"), ("d",)),
    ],
)
def test_words_and_places_that_do_not_exist(door, tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    refused(door(*words), *says)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--split", "tset"), ("'tset'", "known: none, test, train, val")),
        (("--split", "none"), ("empty split",)),
        (("--prompt", "p77"), ("'p77'", "known: p0")),
        (("--engine", "tensorflow"), ("tensorflow", "torch")),
        (("--sentence", "a lesion"), ("prompts of its own",)),
    ],
)
def test_what_data_and_run_do_not_have(door, data, trained_run, words, says):
    (data / "anns" / "none.json").write_text("[]")
    refused(door(*evaluate(data, trained_run, *words)), *says)


def test_prompts_and_splits_are_checked_before_training(door, data):
    refused(door(*train(data, "--set", "prompt=p77")), "'p77'", "known: p0")
    (data / "anns" / "val.json").write_text("[]")
    refused(door(*train(data)), "empty split")
    (data / "anns" / "val.json").unlink()
    refused(door(*train(data)), "no split 'val'", "known: test, train")
    assert not (data.parent / "run").exists()


@pytest.mark.parametrize(
    ("method", "setting", "says"),
    [
        ("clipseg/coop", "options.depth=99", ("depth", "99", "1 to 4 depths")),
        ("clipseg/coop", f"options.phrase={'word ' * 80}", ("tokens", "room for 74")),
        ("clipseg/shared-attention", "options.heads=7", ("heads", "7", "does not divide the width 64")),
        ("cris/cocoop", "options.depth=0", ("depth", "0")),
        ("clipseg/lora", "options.targets=w", ("'w'", "q,v")),
        ("san/adapter", "options.rank=3", ("'rank'", "known: fidelity, positions")),
        ("image/unet", "options.rank=3", ("'rank'", "known: none")),
        ("image/unet", "weights=somewhere", ("somewhere", "leave it out")),
    ],
)
def test_options_that_a_method_cannot_have(door, drawn_data, tmp_path, method, setting, says):
    words = ("train", method, "--data", drawn_data, "--out", tmp_path / "run", *NANO, "--set", setting)
    refused(door(*words), *says)
    assert not (tmp_path / "run").exists()


def spoil(data: Path, split: str, how: str) -> None:
    image, mask = annotated(data, split)
    if how == "missing":
        mask.unlink()
    elif how == "outside":
        shutil.copy(image, data.parent / "outside.png")
        reannotate(data, split, img_name="../../outside.png")
    elif how == "sizes":
        Image.new("L", (9, 9), 255).save(mask)
    elif how == "unreadable":
        image.write_bytes(b"this is no picture")
    elif how == "truncated":
        image.write_bytes(image.read_bytes()[:99])
    elif how == "empty":
        image.write_bytes(b"")


@pytest.mark.parametrize("command", ["train", "evaluate"])
@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("missing", "there is no"),
        ("outside", "outside"),
        ("sizes", "equal sizes"),
        ("unreadable", "cannot read"),
        ("truncated", "cannot read"),
        ("empty", "is empty"),
    ],
)
def test_files_that_cannot_be_used(door, data, trained_run, command, how, says):
    split = "train" if command == "train" else "test"
    spoil(data, split, how)
    words = train(data) if command == "train" else evaluate(data, trained_run)
    refused(door(*words), says)
    assert not (data.parent / "run").exists()


@pytest.mark.parametrize("how", ["unreadable", "truncated", "empty"])
def test_pictures_that_cannot_be_segmented(door, data, trained_run, how):
    spoil(data, "test", how)
    image, _ = annotated(data, "test")
    out = data.parent / "mask.png"
    refused(door("segment", trained_run, image, "--prompt", "a lesion", "--out", out), image.name)
    assert not out.exists()


def test_masks_that_are_all_empty(door, data):
    for mask in (data / "masks").iterdir():
        Image.new("L", (40, 40)).save(mask)
    refused(door(*train(data)), "training masks are empty", "255")


def test_a_loss_that_is_not_a_number(door, data):
    said = door(*train(data, "--set", "lr=1e30", "--set", "clip_norm=0", "--set", "batch_size=4"))
    refused(said, "loss is nan", "batch 1", "train_", "lower lr")


def test_a_run_of_another_backbone(door, drawn_data, trained_run, tmp_path):
    run = shutil.copytree(trained_run, tmp_path / "run")
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(info | {"weights_hash": "0" * 64}))
    seal_run(run, {})
    refused(door(*evaluate(drawn_data, run)), "was trained on", "pass the backbone")
    refused(door("export", run, tmp_path / "bundle"), "was trained on", "pass the backbone")
    assert not (tmp_path / "bundle").exists()


def test_folders_that_are_not_ours(door, drawn_data, trained_run, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    for words in (
        ("train", "clipseg/dense-vl", "--data", drawn_data, "--out", mine, *NANO),
        ("train", "clipseg/dense-vl", "--data", drawn_data, "--out", mine / "thesis.txt", *NANO),
        ("export", trained_run, mine),
        ("export", trained_run, mine, "--overwrite"),
        ("quickstart", "--out", mine),
    ):
        refused(door(*words), "mine", "choose another")
    assert (mine / "thesis.txt").read_text() == "years of work" and len(list(mine.iterdir())) == 1


@pytest.mark.parametrize(
    "words", [("segment", "i.png", "--prompt", "x", "--out", "m.png"), ("bench",), ("evaluate", "--data", "data")]
)
def test_a_bundle_with_a_changed_byte(door, walked, data, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    bundle = shutil.copytree(walked.out / "bundle", tmp_path / "bundle")
    whole = bytearray((bundle / "decoder.onnx").read_bytes())
    whole[len(whole) // 2] ^= 1
    (bundle / "decoder.onnx").write_bytes(whole)
    command, *rest = words
    refused(door(command, bundle, *rest), "decoder.onnx", "hash differs")


ABSENT = ("vlseg: CIDAS/clipseg-rd64-refined", "not on this machine", "--weights")


def test_a_remote_name_offline(door, drawn_data, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    words = ("train", "clipseg/dense-vl", "--size", "base", "--data", drawn_data, "--out", tmp_path / "run")
    refused(door(*words), *ABSENT)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_remote_name_without_a_network(drawn_data, tmp_path):
    """The hub's library asks several times, for half a minute; the address is read when it loads."""
    words = ("train", "clipseg/dense-vl", "--size", "base", "--data", drawn_data, "--out", tmp_path / "run")
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", "from vlseg.cli.door import main; main()", *map(str, words)],
        env=os.environ | nowhere,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
    assert all(word in done.stderr.splitlines()[-1] for word in ABSENT)
    assert not (tmp_path / "run").exists()
