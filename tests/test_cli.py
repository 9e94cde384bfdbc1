"""The one door: help, JSON alone on stdout, one sentence and exit code 2."""

import json
import subprocess
import sys

import pytest

VLSEG = [sys.executable, "-c", "from vlseg.cli import main; main()"]
COMMANDS = (
    "methods",
    "train",
    "evaluate",
    "export",
    "segment",
    "bench",
    "demo",
    "doctor",
    "quickstart",
    "kernels bench",
    "kernels compile",
    "kernels check",
)
BARE = "import sys\nfor name in ('torch', 'transformers', 'monai', 'onnx', 'triton'): sys.modules[name] = None\n"


def vlseg(*words, bare=False):
    command = [sys.executable, "-c", BARE + "from vlseg.cli import main; main()"] if bare else VLSEG
    return subprocess.run([*command, *map(str, words)], capture_output=True, text=True, timeout=300)


def refused(*words, says, bare=False):
    result = vlseg(*words, bare=bare)
    assert result.returncode == 2, result.stderr
    assert says in result.stderr and "Traceback" not in result.stderr
    assert result.stdout == ""
    return result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_needs_no_torch(command):
    result = vlseg(*command.split(), "--help", bare=True)
    assert result.returncode == 0, result.stderr
    assert f"Example: vlseg {command.split()[0]}" in " ".join(result.stdout.split())


def test_every_command_is_tested():
    import typer

    from vlseg.cli import app

    group = typer.main.get_command(app)
    names = {name for name in group.commands if name != "kernels"}  # type: ignore[attr-defined]
    assert names == {command for command in COMMANDS if " " not in command}


def test_methods_json_is_alone_on_stdout():
    result = vlseg("methods", "--json")
    rows = json.loads(result.stdout)
    assert {"name", "size", "paper", "trainable", "total", "image_size"} <= rows[0].keys()
    assert {(row["name"], row["trainable"]) for row in rows if row["size"] == "base"} >= {
        ("clipseg/dense-vl", 2_974_464),
        ("clipseg/shallow-vlc", 4_201_984),
    }


def test_doctor_works_with_the_device_install():
    report = json.loads(vlseg("doctor", "--json", bare=True).stdout)
    keys = {"python", "platform", "gpus", "onnxruntime", "tensorrt", "tensorrt_rtx", "jetpack", "engines", "faults"}
    assert keys <= report.keys()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("train", "clipseg/nope", "--data", "x", "--out", "y"), "known: clipseg/frozen"),
        (("train", "clipseg/full", "--size", "huge", "--data", "x", "--out", "y"), "known: tiny"),
        (("train", "clipseg/dense-v", "--data", "x", "--out", "y", "--set", "lrr=1"), "lrr"),
        (("train", "clipseg/dense-v", "--data", "no-such-folder", "--out", "y"), "no-such-folder"),
        (("evaluate", "no-such-run", "--data", "x"), "x"),
        (("export", "no-such-run", "out"), "is not a run"),
    ],
)
def test_bad_input_ends_in_one_sentence(words, says, tmp_path):
    message = refused(*words, says=says)
    assert message.startswith("vlseg: ") and message.count("\n") == 1


@pytest.mark.parametrize(
    "words", [("segment", "no-bundle", "i.png", "--prompt", "p", "--out", "m.png"), ("bench", "none")]
)
def test_bad_bundles_without_torch(words):
    refused(*words, says="manifest", bare=True)


def test_unknown_command_and_option():
    refused("no-such-command", says="No such command")
    refused("methods", "--nope", says="No such option")
