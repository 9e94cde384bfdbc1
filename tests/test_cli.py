"""The one door: help, JSON alone on stdout, the device install, Ctrl-C. Bad input: `test_bad_input.py`."""

import json
import os
import signal
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import typer

from vlseg.cli.door import app
from vlseg.deploy.pixels import read_image
from vlseg.train.models import methods

VLSEG = [sys.executable, "-c", "from vlseg.cli.door import main; main()"]
COMMANDS = (
    "methods",
    "train",
    "recipes",
    "evidence",
    "reproduce",
    "deploy",
    "evaluate",
    "export",
    "convert",
    "segment",
    "bench",
    "build",
    "demo",
    "explain",
    "doctor",
    "quickstart",
    "data check",
    "data convert",
    "data sets",
    "kernels bench",
    "kernels compile",
    "kernels check",
)
HEAVY = ("torch", "transformers", "monai", "lightning", "onnx", "triton", "scipy")
BARE = f"import sys\nfor name in {HEAVY}: sys.modules[name] = None\n"
# a shell's background jobs start deaf to Ctrl-C, and their children with them
LISTENING = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
NANO = ("--size", "nano", "--set", "max_epochs=2", "--set", "min_epochs=1", "--set", "batch_size=4")


def vlseg(*words, bare=False):
    command = [sys.executable, "-c", BARE + "from vlseg.cli.door import main; main()"] if bare else VLSEG
    return subprocess.run([*command, *map(str, words)], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_needs_no_torch(command):
    result = vlseg(*command.split(), "--help", bare=True)
    assert result.returncode == 0, result.stderr
    assert f"Example: vlseg {command.split()[0]}" in " ".join(result.stdout.split())


def names_in(group, before=""):
    """Yield every command of a group and of the groups in it."""
    for name, command in group.commands.items():
        inner = names_in(command, f"{before}{name} ") if hasattr(command, "commands") else [before + name]
        yield from inner


def test_every_command_is_tested():
    assert sorted(names_in(typer.main.get_command(app))) == sorted(COMMANDS)


def test_methods_json_is_alone_on_stdout():
    result = vlseg("methods", "--json")
    rows = json.loads(result.stdout)
    assert {"name", "size", "paper", "trainable", "total", "image_size", "cached"} <= rows[0].keys()
    assert {row["name"] for row in rows} == set(methods.METHODS)
    assert {(row["name"], row["trainable"]) for row in rows if row["size"] == "base"} >= {
        ("clipseg/dense-vl", 2_974_464),
        ("clipseg/shallow-vlc", 4_201_984),
    }


def test_doctor_works_with_the_device_install():
    report = json.loads(vlseg("doctor", "--json", bare=True).stdout)
    keys = {"python", "platform", "gpus", "onnxruntime", "tensorrt", "tensorrt_rtx", "jetpack", "engines", "faults"}
    assert keys <= report.keys()


def test_methods_say_what_training_computes_once(door, monkeypatch):
    cached = {"clipseg/decoder": "  image, text  ", "clipseg/dense-v": "  text  ", "clipseg/full": "  -  "}
    monkeypatch.setattr(methods, "METHODS", {name: methods.METHODS[name] for name in cached})
    lines = {line.split()[0]: line for line in door("methods").out.splitlines() if "  tiny  " in line}
    assert lines.keys() == cached.keys()
    assert all(cached[name] in line for name, line in lines.items()), lines


def test_train_reports_its_run_file(door, drawn_data, tmp_path):
    words = ("train", "clipseg/dense-v", "--data", drawn_data, "--out", tmp_path / "run", *NANO)
    said = door(*words, "--json")
    assert json.loads(said.out) == json.loads((tmp_path / "run" / "run.json").read_text())
    assert "text computed once" in said.err and "epoch 1" in said.err
    assert "test Dice" in door(*words).out  # finished: said again, not trained again


def test_a_run_is_run_by_torch_alone(door, drawn_data, trained_run):
    report = json.loads(door("evaluate", trained_run, "--data", drawn_data, "--engine", "torch", "--json").out)
    assert report["engine"] == "torch" and report["data"] == "clinic" and report["mean"]["hd95"] is not None


def test_bundle_scores_as_run_without_torch(door, walked):
    run, bundle, data = walked.out / "run", walked.out / "bundle", walked.out / "data"
    of_run = json.loads(door("evaluate", run, "--data", data, "--prompt", "random", "--no-hd95", "--json").out)
    said = vlseg("evaluate", bundle, "--data", data, "--prompt", "random", "--json", bare=True)
    of_bundle = json.loads(said.stdout)
    keys = {"data", "split", "prompt", "n", "mean", "hd95_one_empty", "images"}
    assert keys <= of_bundle.keys() and of_bundle["n"] == len(of_bundle["images"]) == 5
    assert of_bundle["mean"]["dice"] == pytest.approx(of_run["mean"]["dice"], abs=1e-3)
    assert of_bundle["mean"]["hd95"] is None and "pip install" in said.stderr  # said, since scipy is refused here
    assert "image 5/5" in said.stderr


def test_masks_of_a_folder_without_torch(walked, tmp_path):
    images = walked.out / "data" / "images"
    said = vlseg(
        "segment", walked.out / "bundle", images, "--prompt", "a lesion", "--out", tmp_path, "--json", bare=True
    )
    rows = json.loads(said.stdout)
    assert len(rows) == len(list(images.iterdir())) == said.stderr.count("of the image")
    for row in rows:
        mask = read_image(row["mask"])[..., 0]
        assert Path(row["mask"]).parent == tmp_path and mask.shape == (40, 40)
        assert (mask == 255).mean() == pytest.approx(row["share"])


def test_bench_without_torch(walked, tmp_path):
    words = ("bench", walked.out / "bundle", "--repeats", 1, "--csv", tmp_path / "rows.csv", "--json")
    report = json.loads(vlseg(*words, bare=True).stdout, parse_constant=pytest.fail)
    keys = {"bundle", "engine", "precision", "batch", "stage", "p50_ms", "p90_ms", "p99_ms", "mean_ms", "cv"}
    assert keys | {"images_per_s", "peak_rss_mib"} <= report["rows"][0].keys() and report["device"]
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 1 + len(report["rows"])


def sentences(prompts: dict) -> list[str]:
    """Every sentence of an annotation; single words are in any vocabulary."""
    values = [[value] if isinstance(value, str) else value for value in prompts.values()]
    return [text for texts in values for text in texts if " " in text]


def test_nothing_of_the_data_leaks_into_a_bundle(walked):
    """Neither a name, nor a sentence, nor a path; the names of the drawn files stand for a patient's."""
    entries = json.loads((walked.out / "data" / "anns" / "train.json").read_text())
    told = {text for entry in entries for text in sentences(entry["prompts"])}
    told |= {Path(entry["img_name"]).stem for entry in entries} | {str(walked.out), str(Path.cwd())}
    assert len(told) > 10
    for path in (walked.out / "bundle").iterdir():
        held = path.read_bytes()
        assert not [text for text in told if text.encode() in held], path.name


def interrupted(words, after: str) -> subprocess.Popen:
    """Start `vlseg`, wait for a line that holds `after`, send SIGINT, and return the process once it is over."""
    command = [sys.executable, "-c", LISTENING + "from vlseg.cli.door import main; main()", *map(str, words)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr
    told = []
    for line in process.stderr:
        told.append(line)
        if after in line:
            process.send_signal(signal.SIGINT)
            break
    process.out, rest = process.communicate(timeout=120)  # type: ignore[attr-defined]
    process.err = "".join(told) + rest  # type: ignore[attr-defined]
    return process


def test_control_c_in_training_says_how_to_go_on(door, drawn_data, tmp_path):
    words = ("train", "clipseg/decoder", "--data", drawn_data, "--out", tmp_path / "run", *NANO)
    done = interrupted((*words, "--set", "max_epochs=5000", "--set", "patience=5000", "--json"), "epoch 1:")
    assert done.returncode == 130 and done.out == "" and "Traceback" not in done.err
    last = done.err.splitlines()[-1]
    assert last.startswith("vlseg: interrupted, the last whole epoch is kept in") and "same command" in last
    kinds = {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert kinds == {"session.json", "last.safetensors", "metrics.csv"}
    epochs = len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) - 1
    again = door(*words, "--set", "patience=5000", "--set", f"max_epochs={epochs + 1}")
    assert again.code == 0 and "resuming clipseg/decoder" in again.err and f"epoch {epochs}:" in again.err


def test_control_c_in_the_quickstart_leaves_nothing(tmp_path):
    done = interrupted(("quickstart", "--out", tmp_path / "quickstart"), "[1/7]")
    assert done.returncode == 130 and "Traceback" not in done.err
    assert "nothing was written" in done.err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_two_processes_through_the_door(drawn_data, tmp_path):
    """Both print nothing but one JSON; the script is a file, which the second process is started from."""
    script = tmp_path / "vlseg"
    script.write_text("from vlseg.cli.door import main\nmain()\n")
    words = ("train", "clipseg/dense-v", "--data", drawn_data, "--out", tmp_path / "run", *NANO, "--devices", "2")
    done = subprocess.run(
        [sys.executable, script, *map(str, words), "--json"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["recipe"]["devices"] == 2 and done.stderr.count("epoch 1:") == 1


@pytest.mark.slow
def test_export_reports_json_alone(trained_run, tmp_path):
    report = json.loads(vlseg("export", trained_run, tmp_path / "bundle", "--folds", "none", "--json").stdout)
    assert {"images", "dice_min", "flipped_share", "max_abs_logit", "passed"} <= report["parity"].keys()
    assert report["bundle"] == str(tmp_path / "bundle") and report["folds"]


@pytest.mark.network
@pytest.mark.timeout(600)
def test_the_device_install_alone(walked, tmp_path):
    """An environment that holds what a device has, and this checkout beside it."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "vlseg").symlink_to(Path(__file__).parent.parent)
    venv.create(tmp_path / "device", with_pip=True)
    python = tmp_path / "device" / "bin" / "python"
    needed = ("numpy", "pillow", "tokenizers", "typer", "onnxruntime")
    subprocess.run([python, "-m", "pip", "install", "-q", *needed], check=True)

    def on_device(*words):
        command = [python, "-c", "from vlseg.cli.door import main; main()", *map(str, words)]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "path"), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    bundle, data = walked.out / "bundle", walked.out / "data"
    mask = tmp_path / "mask.png"
    on_device("segment", bundle, data / "images" / "test_0000.png", "--prompt", "a lesion", "--out", mask)
    assert mask.is_file()
    report = json.loads(on_device("evaluate", bundle, "--data", data, "--prompt", "random", "--json"))
    assert report["mean"]["dice"] == pytest.approx(walked.report["dice_torch"], abs=1e-3)
    assert json.loads(on_device("bench", bundle, "--repeats", 2, "--json"))["rows"]
    assert json.loads(on_device("doctor", "--json"))["engines"] == ["onnxruntime"]
