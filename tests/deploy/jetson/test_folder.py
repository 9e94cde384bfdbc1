"""The folder for a Jetson, as far as a machine that is none can try it."""

import csv
import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from vlseg.deploy.errors import BundleError, UserError
from vlseg.deploy.jetson import wheel
from vlseg.deploy.jetson.folder import ARCHITECTURES, MARKER, TEMPLATES, make_folder
from vlseg.deploy.jetson.wheel import ROOMS, ROOT, pack_wheel
from vlseg.deploy.manifest import Manifest
from vlseg.deploy.metrics import dice
from vlseg.deploy.segmenter import Segmenter

SCRIPTS = ("install.sh", "build.sh", "bench.sh")
PINS = {"requirements-py310.txt": "3.10", "requirements-py312.txt": "3.12"}


@pytest.fixture(scope="module")
def one_wheel():
    return pack_wheel()


@pytest.fixture
def made(toy_bundle, tmp_path, monkeypatch, one_wheel):
    monkeypatch.setattr("vlseg.deploy.jetson.folder.pack_wheel", lambda: one_wheel)
    return make_folder(toy_bundle, tmp_path / "out"), tmp_path / "out"


def run(script: Path, *words, **environment) -> subprocess.CompletedProcess:
    """Run a script of a folder with nothing but a path and what is given."""
    clean = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment}
    return subprocess.run([script, *words], capture_output=True, text=True, env=clean, timeout=600, check=False)


def test_the_folder_is_whole(made, toy_bundle, colours):
    report, folder = made
    assert {*SCRIPTS, "common.sh", "README.md", "Dockerfile", "vlseg-build.service", *PINS} <= set(report["files"])
    assert all(os.access(folder / name, os.X_OK) for name in SCRIPTS)
    assert (folder / MARKER).is_file() and report["kernels"] is False
    with Segmenter.open(folder / "bundle") as copy, Segmenter.open(toy_bundle) as original:
        assert np.array_equal(copy.logits(colours[0], "red"), original.logits(colours[0], "red"))


def test_the_page_speaks_of_this_bundle(made):
    page = (made[1] / "README.md").read_text()
    assert page.startswith("# toy on a Jetson") and "toy/film" in page and "no kernels of ours" in page
    assert "$name" not in page and "$PWD" in (made[1] / "Dockerfile").read_text()


def test_engines_of_other_machines_stay_behind(toy_bundle, tmp_path, monkeypatch, one_wheel):
    monkeypatch.setattr("vlseg.deploy.jetson.folder.pack_wheel", lambda: one_wheel)
    for name in ("rtx/image.plan", "engines/image.plan", "ptx/kernels.json"):
        (toy_bundle / name).parent.mkdir(exist_ok=True)
        (toy_bundle / name).write_text("{}")
    Manifest.load(toy_bundle).save(toy_bundle)
    report = make_folder(toy_bundle, tmp_path / "kept")
    assert "bundle/ptx/kernels.json" in report["files"] and report["kernels"]
    assert not [name for name in report["files"] if name.startswith(("bundle/rtx", "bundle/engines"))]


def test_kernels_are_asked_for_orin_and_thor_and_sealed(toy_bundle, tmp_path, monkeypatch, one_wheel):
    monkeypatch.setattr("vlseg.deploy.jetson.folder.pack_wheel", lambda: one_wheel)
    asked = []

    def kernels(bundle, files, architectures):
        asked.append((files, architectures))
        (bundle / "ptx").mkdir()
        (bundle / "ptx/kernels.json").write_text("[]")

    report = make_folder(toy_bundle, tmp_path / "out", kernels=kernels)
    assert asked == [(["image.onnx", "text.onnx", "decoder.onnx"], ARCHITECTURES)] and report["kernels"]
    assert "ptx/kernels.json" in Manifest.load(tmp_path / "out/bundle").files


def test_bad_input(made, toy_bundle, tmp_path):
    _, folder = made
    with pytest.raises(UserError, match="exists already"):
        make_folder(toy_bundle, folder)
    with pytest.raises(BundleError, match="is not a bundle"):
        make_folder(tmp_path / "none", tmp_path / "other")
    with pytest.raises(UserError, match="lies inside of the bundle"):
        make_folder(toy_bundle, toy_bundle / "out")
    (toy_bundle / "image.onnx").write_bytes(b"edited")
    with pytest.raises(BundleError, match="hash differs"):
        make_folder(toy_bundle, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_the_door(door, toy_bundle, tmp_path):
    assert "no device 'toaster'; known: jetson" in door("deploy", toy_bundle, tmp_path / "x", "--to", "toaster").err
    said = door("deploy", toy_bundle, tmp_path / "x", "--to", "jetson", "--no-kernels", "--json")
    assert said.code == 0 and '"wheel": "vlseg-' in said.out


def test_the_wheel_holds_the_package_and_says_what_it_needs(one_wheel):
    name, data = one_wheel
    archive = zipfile.ZipFile(io.BytesIO(data))
    names = set(archive.namelist())
    assert re.fullmatch(r"vlseg-[\d.]+-py3-none-any\.whl", name) and archive.testzip() is None
    assert {"vlseg/__init__.py", "vlseg/deploy/segmenter.py", "vlseg/deploy/jetson/files/install.sh"} <= names
    assert not [one for one in names if "__pycache__" in one or one.startswith(("vlseg/tests", "vlseg/docs"))]
    info = name.split("-py3")[0] + ".dist-info"
    assert b"Requires-Dist: numpy" in archive.read(f"{info}/METADATA")
    assert b"vlseg = vlseg.cli.door:main" in archive.read(f"{info}/entry_points.txt")
    record = {row[0]: row[2] for row in csv.reader(archive.read(f"{info}/RECORD").decode().splitlines())}
    assert record.keys() == names and all(
        int(record[one]) == archive.getinfo(one).file_size for one in names if record[one]
    )


def test_the_wheel_is_the_same_twice(one_wheel):
    assert pack_wheel() == one_wheel


def test_the_rooms_are_those_of_the_package():
    tomllib = pytest.importorskip("tomllib")
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert set(ROOMS) == {name.split(".")[1] for name in listed if "." in name}


def test_without_an_installation_there_is_no_wheel(monkeypatch):
    monkeypatch.setattr(wheel, "NAME", "no-such-package")
    with pytest.raises(UserError, match="without being installed"):
        pack_wheel()


@pytest.mark.skipif(
    shutil.which("shellcheck") is None, reason="shellcheck is not installed: apt-get install shellcheck"
)
def test_scripts_are_clean():
    done = subprocess.run(
        ["shellcheck", "-x", *sorted(map(str, TEMPLATES.glob("*.sh")))], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(
    shutil.which("shellcheck") is None, reason="shellcheck is not installed: apt-get install shellcheck"
)
def test_the_dockerfile_is_clean_and_says_that_it_was_not_built():
    text = (TEMPLATES / "Dockerfile").read_text()
    assert text.startswith("# NOT BUILT, NOT RUN")
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    words = [line.split()[0] for line in lines]
    assert words[:2] == ["ARG", "FROM"] and set(words) <= {"ARG", "FROM", "SHELL", "RUN", "WORKDIR", "COPY", "CMD"}
    runs = "\n".join(line[4:] for line in lines if line.startswith("RUN "))
    assert "--no-install-recommends" in runs and "rm -rf /var/lib/apt/lists" in runs and "sudo" not in runs
    done = subprocess.run(["shellcheck", "--shell=bash", "-"], input=runs, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_unit_has_what_systemd_wants():
    import configparser

    unit = configparser.ConfigParser(delimiters="=", interpolation=None, strict=True)
    unit.optionxform = str  # type: ignore[assignment]  # keys of a unit have capitals
    unit.read_string((TEMPLATES / "vlseg-build.service").read_text())
    assert unit.sections() == ["Unit", "Service", "Install"]
    assert unit["Service"]["Type"] == "oneshot" and Path(unit["Service"]["ExecStart"]).name in SCRIPTS


@pytest.mark.parametrize("name", PINS)
def test_every_requirement_is_pinned(name):
    joined = (TEMPLATES / name).read_text().replace(" \\\n", "").splitlines()
    lines = [line for line in joined if not line.startswith("#")]
    form = r"[a-z0-9-]+==[\d.]+(    --hash=sha256:[0-9a-f]{64})+"
    assert all(re.fullmatch(form, line) for line in lines)
    pins = dict(line.split()[0].split("==") for line in lines)
    assert list(pins) == sorted(pins)
    assert {"onnxruntime", "numpy", "pillow", "tokenizers", "typer", "cuda-bindings"} <= pins.keys()
    if PINS[name] == "3.10":
        assert pins["onnxruntime"] == "1.23.2" and pins["numpy"] == "2.2.6" and pins["cuda-bindings"].startswith("12.")


@pytest.mark.network
@pytest.mark.parametrize(("name", "python"), PINS.items())
def test_every_pin_has_a_wheel_for_the_device(name, python, tmp_path):
    platforms = [f"--platform=manylinux{tag}_aarch64" for tag in ("_2_28", "_2_27", "_2_17", "2014")]
    words = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", *platforms]
    words += ["--implementation=cp", f"--python-version={python}", "-d", tmp_path, "-r", TEMPLATES / name]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pins = [line for line in (TEMPLATES / name).read_text().splitlines() if "==" in line]
    assert len(list(tmp_path.glob("*.whl"))) == len(pins)


@pytest.mark.network
@pytest.mark.parametrize(("name", "python"), PINS.items())
def test_pip_needs_nothing_that_has_no_hash(name, python, tmp_path):
    """With hashes required, pip refuses whatever a pin depends on and the file does not hold."""
    platforms = [f"--platform=manylinux{tag}_aarch64" for tag in ("_2_28", "_2_27", "_2_17", "2014")]
    words = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed", "--require-hashes"]
    words += ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}", *platforms]
    done = subprocess.run([*words, "--target", tmp_path, "-r", TEMPLATES / name], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_scripts_say_what_is_missing_before_they_do_anything(made):
    _, folder = made
    for script in ("build.sh", "bench.sh"):
        done = run(folder / script)
        assert done.returncode == 2 and "run " in done.stderr and "install.sh first" in done.stderr
    assert "there is no nopython" in run(folder / "install.sh", PYTHON="nopython").stderr


def test_install_refuses_a_python_that_no_file_is_for(made, tmp_path):
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\necho 3.8\n")
    old.chmod(0o755)
    done = run(made[1] / "install.sh", PYTHON=str(old))
    assert done.returncode == 2 and "Python 3.8 is not supported, expected 3.10" in done.stderr
    assert not (made[1] / ".venv").exists()


def fake_environment(folder: Path, tensorrt: bool) -> Path:
    """Put stand-ins for the environment's python and vlseg into a folder; vlseg prints its words."""
    home = folder / ".venv/bin"
    home.mkdir(parents=True)
    (home / "python").write_text(f"#!/bin/sh\nexit {0 if tensorrt else 1}\n")
    (home / "vlseg").write_text('#!/bin/sh\necho "$@"\n')
    for one in home.iterdir():
        one.chmod(0o755)
    return folder


def test_build_says_that_tensorrt_is_missing_and_what_runs_without_it(made):
    folder = fake_environment(made[1], tensorrt=False)
    done = run(folder / "build.sh")
    assert done.returncode == 2 and not done.stdout
    assert "TensorRT is not here: it comes with JetPack" in done.stderr and "segment" in done.stderr


def test_build_and_bench_call_the_commands_that_there_are(made, door):
    folder = fake_environment(made[1], tensorrt=True)
    assert run(folder / "build.sh", "--batch", "4").stdout.split() == ["build", f"{folder}/bundle", "--batch", "4"]
    words = run(folder / "bench.sh", "--repeats", "9").stdout.split()
    assert words[:4] == ["bench", f"{folder}/bundle", "--engine", "onnxruntime"] and "--csv" in words
    (folder / "bundle/engines").mkdir()
    (folder / "bundle/engines/engines.json").write_text("{}")
    assert "--engine tensorrt --engine onnxruntime" in run(folder / "bench.sh").stdout
    for command, options in (("build", ("--batch", "--workspace", "--level")), ("bench", ("--engine", "--csv"))):
        text = door(command, "--help").out
        assert all(option in text for option in options)


@pytest.mark.network
@pytest.mark.slow
def test_it_installs_and_answers_in_a_clean_environment(made, tmp_path, colours):
    from PIL import Image

    _, folder = made
    done = run(folder / "install.sh", PYTHON=sys.executable, HOME=str(tmp_path), **pip_settings())
    assert done.returncode == 0, done.stderr
    assert "this is no Jetson" in done.stderr and "onnxruntime" in done.stdout
    Image.fromarray(colours[0]).save(tmp_path / "photo.png")
    vlseg = folder / ".venv/bin/vlseg"
    done = run(
        vlseg, "segment", folder / "bundle", tmp_path / "photo.png", "--prompt", "red", "--out", tmp_path / "m.png"
    )
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "m.png") as mask:
        assert dice(np.asarray(mask) > 0, colours[1]["red"]) > 0.85
    done = run(folder / "build.sh")
    assert done.returncode == 2 and "TensorRT is not here" in done.stderr
    done = run(folder / "bench.sh", "--repeats", "3", "--no-cold")
    assert done.returncode == 0 and (folder / "rows.csv").is_file(), done.stderr


def pip_settings() -> dict[str, str]:
    """Return where this machine's pip is told to look for packages."""
    return {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HTTP", "http"))}
