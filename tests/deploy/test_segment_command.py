"""`vlseg segment` through the door: what it says, how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlseg.deploy.pixels import read_image

PROMPT = ("--prompt", "red spot")


@pytest.fixture
def images(toy_data) -> Path:
    """Five pictures."""
    folder = toy_data / "images"
    (folder / "case4.png").write_bytes((folder / "case0.png").read_bytes())
    return folder


def test_bad_files_are_listed_at_the_end(door, toy_bundle, images, tmp_path):
    names = sorted(path.name for path in images.iterdir())
    (images / names[1]).write_bytes((images / names[1]).read_bytes()[:99])
    (images / names[3]).write_bytes(b"")
    said = door("segment", toy_bundle, images, *PROMPT, "--out", tmp_path / "out", "--json")
    assert said.code == 1 and "Traceback" not in said.err
    head, first, second = said.err.splitlines()[-3:]
    assert head == "vlseg: 2 of 5 files failed:" and names[1] in first and names[3] in second and "empty" in second
    rows = json.loads(said.out)
    assert [("error" in row) for row in rows] == [False, True, False, True, False]
    assert "[5/5]" in said.err


def test_a_folder_is_skipped_the_second_time(door, toy_bundle, images, tmp_path):
    words = ("segment", toy_bundle, images, *PROMPT, "--out", tmp_path / "out", "--json")
    first, second = json.loads(door(*words).out), json.loads(door(*words).out)
    assert not any(row.pop("skipped") for row in first) and all(row.pop("skipped") for row in second)
    assert first == second


def test_several_sources_and_classes(door, toy_bundle, images, tmp_path):
    files = sorted(images.iterdir())[:2]
    said = door("segment", toy_bundle, *files, *PROMPT, "--prompt", "green", "--as", "rle", "--out", tmp_path)
    assert said.code == 0, said.err
    coco = json.loads((tmp_path / "annotations.coco.json").read_text())
    assert [one["name"] for one in coco["categories"]] == ["red spot", "green"] and len(coco["images"]) == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--window", "9,3"), ("'9,3'", "LOW,HIGH")),
        (("--window", "0,1000"), ("has 8 bits", "leave the window out")),
        (("--as", "gif"), ("'gif'", "known: png")),
        (("--seconds", "3"), ("--seconds 3", "video")),
        (("--tile", "0"), ("tiles of 0 pixels",)),
        (("--threshold", "50"), ("threshold 50", "from 0 to 1")),
        (("--threshold", "nan"), ("threshold nan", "from 0 to 1")),
    ],
)
def test_options_that_do_not_fit(door, toy_bundle, images, tmp_path, words, says):
    image = sorted(images.iterdir())[0]
    said = door("segment", toy_bundle, image, *PROMPT, "--out", tmp_path / "m.png", *words)
    assert said.code == 2 and said.out == "" and not (tmp_path / "m.png").exists()
    assert all(word in said.err.splitlines()[-1] for word in says), said.err


@pytest.mark.parametrize("shape", [(1, 1), (1, 10_000), (10_000, 1)])
def test_thin_pictures(door, toy_bundle, tmp_path, shape):
    Image.fromarray(np.full((*shape, 3), 90, np.uint8)).save(tmp_path / "x.png")
    assert door("segment", toy_bundle, tmp_path / "x.png", *PROMPT, "--out", tmp_path / "m.png").code == 0
    assert read_image(tmp_path / "m.png").shape[:2] == shape


def test_nan_in_a_float_picture(door, toy_bundle, tmp_path):
    values = np.ones((8, 8), np.float32)
    values[3, 3] = np.nan
    Image.fromarray(values).save(tmp_path / "x.tif")
    said = door("segment", toy_bundle, tmp_path / "x.tif", *PROMPT, "--out", tmp_path / "m.png")
    assert said.code == 2 and "NaN" in said.err and not (tmp_path / "m.png").exists()


def test_a_decompression_bomb(door, toy_bundle, tmp_path, monkeypatch):
    Image.new("RGB", (40, 40)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    said = door("segment", toy_bundle, tmp_path / "x.png", *PROMPT, "--out", tmp_path / "m.png")
    assert said.code == 2 and "guard of 100 pixels" in said.err


@pytest.mark.parametrize("prompt", ["", "red " * 2_500, "red \N{MICROSCOPE}", "a\x07 red\n", "‮آفة"])
def test_odd_prompts_are_answered(door, toy_bundle, images, tmp_path, prompt):
    image = sorted(images.iterdir())[0]
    said = door("segment", toy_bundle, image, "--prompt", prompt, "--out", tmp_path / "m.png")
    assert said.code == 0, said.err
    assert read_image(tmp_path / "m.png").shape == (32, 48, 3)


def test_a_large_picture_is_no_warning_in_code(door, toy_bundle, images, tmp_path, monkeypatch):
    image = sorted(images.iterdir())[0]
    height, width = read_image(image).shape[:2]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", height * width - 1)
    said = door("segment", toy_bundle, image, *PROMPT, "--out", tmp_path / "m.png")
    assert said.code == 0 and "Warning" not in said.err


def test_a_bundle_without_the_right_to_read_it(door, toy_bundle, images, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", str(toy_bundle / "image.onnx"))

    monkeypatch.setattr("vlseg.deploy.manifest.Manifest.load", refuse)
    said = door("segment", toy_bundle, images, *PROMPT, "--out", tmp_path / "out")
    assert said.code == 2 and said.err.endswith("image.onnx (Permission denied): get the right to it\n"), said.err


def test_an_unknown_engine(door, toy_bundle, images, tmp_path):
    words = ("segment", toy_bundle, images, *PROMPT, "--out", tmp_path / "out", "--engine", "abacus")
    said = door(*words)
    assert said.code == 2 and "'abacus'" in said.err and "known: auto" in said.err


def test_ctrl_c_in_a_folder_run(toy_bundle, tmp_path):
    """The signal of a real process; the same command then finishes what is left."""
    images = tmp_path / "in"
    images.mkdir()
    rng = np.random.default_rng(0)
    for i in range(60):
        Image.fromarray(rng.integers(0, 256, (400, 500, 3), dtype=np.uint8)).save(images / f"{i:03}.png")
    # a shell's background job ignores the signal, and hands that on
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from vlseg.cli.door import main; main()"
    words = ["segment", toy_bundle, images, *PROMPT, "--out", tmp_path / "out"]
    command = [sys.executable, "-c", code, *map(str, words)]
    going = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        limit = time.monotonic() + 60
        while len(list((tmp_path / "out").glob("*.png"))) < 3 and time.monotonic() < limit:
            time.sleep(0.01)
        going.send_signal(signal.SIGINT)
        _, err = going.communicate(timeout=60)
    finally:
        going.kill()
    written = list((tmp_path / "out").glob("*.png"))
    assert going.returncode == 130 and 3 <= len(written) < 60, err
    assert err.splitlines()[-1].endswith("of 60 files; give the command again to go on") and "Traceback" not in err
    assert all(read_image(path).shape == (400, 500, 3) for path in written)
    assert not list((tmp_path / "out").glob("*.partial"))
    again = subprocess.run([*command, "--json"], capture_output=True, text=True, env=os.environ)
    rows = json.loads(again.stdout)
    assert len(rows) == 60 and sum(row["skipped"] for row in rows) >= len(written) - 1
