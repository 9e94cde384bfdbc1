"""The folder for a Jetson on the processor of a Jetson, emulated: a Debian arm64 root under qemu-user-static.

Up to where TensorRT is needed, which no emulation has. As root, with `apt-get install qemu-user-static binfmt-support
mmdebstrap arch-test`, a network, and minutes to hours: `pytest -m soak tests/deploy/jetson/test_arm64.py`.
"""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlseg.deploy.jetson.folder import make_folder
from vlseg.deploy.metrics import dice

from .test_folder import pip_settings

TOOLS = ("qemu-aarch64-static", "mmdebstrap", "arch-test", "chroot")
PACKAGES = "python3,python3-venv,ca-certificates"
MIRROR = "http://deb.debian.org/debian"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

pytestmark = [pytest.mark.soak, pytest.mark.network, pytest.mark.timeout(4 * 3600)]


def lacks() -> str | None:
    """Return why there can be no arm64 root here, or None."""
    if absent := [name for name in TOOLS if shutil.which(name) is None]:
        return f"not installed: {', '.join(absent)}"
    if os.geteuid():
        return "a root of another processor is made by root alone"
    if subprocess.run(["arch-test", "arm64"], capture_output=True, check=False).returncode:
        return "this kernel runs no arm64 programs: binfmt_misc has no qemu-aarch64"
    return None


@pytest.fixture(scope="module")
def arm64(tmp_path_factory) -> Path:
    """A root of Debian arm64 with Python; VLSEG_ARM64_ROOT names one that is there already, and is written to."""
    if why := lacks():
        pytest.skip(why)
    if there := os.environ.get("VLSEG_ARM64_ROOT"):
        return Path(there)
    root = tmp_path_factory.mktemp("arm64") / "root"
    words = ["mmdebstrap", "--architectures=arm64", "--variant=minbase", f"--include={PACKAGES}", "bookworm"]
    done = subprocess.run([*words, root, MIRROR], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    shutil.copy(CERTIFICATES, root / str(CERTIFICATES).lstrip("/"))
    return root


def inside(root: Path, *words: str) -> subprocess.CompletedProcess:
    """Run a command in the root, with nothing but a path and where packages come from."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    clean = {"PATH": path, "HOME": "/root", **pip_settings()}
    return subprocess.run(["chroot", root, *words], capture_output=True, text=True, env=clean, check=False)


def test_it_installs_and_answers_on_arm64_up_to_tensorrt(arm64, toy_bundle, colours):
    folder = arm64 / "srv/toy.jetson"
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(toy_bundle, folder)
    Image.fromarray(colours[0]).save(folder / "photo.png")
    assert inside(arm64, "uname", "-m").stdout.strip() == "aarch64"

    done = inside(arm64, "/srv/toy.jetson/install.sh")
    assert done.returncode == 0, done.stderr
    assert "this is no Jetson" in done.stderr and "onnxruntime" in done.stdout

    home = "/srv/toy.jetson"
    words = ("segment", f"{home}/bundle", f"{home}/photo.png", "--prompt", "red", "--out", f"{home}/mask.png")
    done = inside(arm64, f"{home}/.venv/bin/vlseg", *words)
    assert done.returncode == 0, done.stderr
    with Image.open(folder / "mask.png") as mask:
        assert dice(np.asarray(mask) > 0, colours[1]["red"]) > 0.85

    done = inside(arm64, f"{home}/build.sh")
    assert done.returncode == 2 and "TensorRT is not here: it comes with JetPack" in done.stderr
    done = inside(arm64, f"{home}/bench.sh", "--repeats", "3", "--no-cold")
    assert done.returncode == 0 and "aarch64" in (folder / "rows.csv").read_text(), done.stderr
