"""Every command and snippet of the documentation is run, page by page, but for those that say what they need.

The words are the page's own. What they are run on is small: drawn pictures, models of 32 pixels, and, where a page
trains the embedded model itself, two steps of it. What would take a reader's machine minutes is told to take seconds
(`LITTLE`), and what speaks to an open page speaks to one on a free port.
"""

import contextlib
import importlib.util
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vlseg.cli.door import main
from vlseg.export.bundle import Options, export_model
from vlseg.train.clinic import write_dataset
from vlseg.train.fit import fit
from vlseg.train.models.methods import build_model
from vlseg.train.recipe import Recipe

ROOT = Path(__file__).parent.parent
SMALL = "batch_size = 4\nmax_epochs = 1\nmin_epochs = 1\nmax_steps = 2\nwarmup_steps = 0\n"
LITTLE = {"--duration 600": "--duration 2"}
RUNS = {"polyps": 7, "polyp": 7, "skin": 8}  # with the seed of their data


def loaded(path: str):
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


FENCES = loaded("docs/fences.py")


def silent(line: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory) -> Path:
    """A folder with everything that the pages take for granted."""
    root = tmp_path_factory.mktemp("stage")
    for name, seed in (("polyps", 7), ("skin", 8)):
        write_dataset(root / name, 8, 4, 5, size=40, style="clinic", seed=seed)
    (root / "data").mkdir()
    (root / "data" / "polyps").symlink_to(root / "polyps")
    recipe = Recipe(method="clipseg/dense-vl", size="nano", batch_size=4, max_epochs=1, min_epochs=1)
    for name, seed in RUNS.items():
        fit(
            recipe.replace(seed=seed), root / ("skin" if name == "skin" else "polyps"), root / "runs" / name, say=silent
        )
    plain = Options(folds="none")
    export_model(build_model("clipseg/frozen", "nano"), info_of("clipseg/frozen"), root / "frozen.bundle", plain)
    adapted = build_model("clipseg/dense-vl", "nano")
    export_model(adapted, info_of("clipseg/dense-vl"), root / "adapted.bundle", plain)
    shutil.copytree(root / "adapted.bundle", root / "polyps.bundle")
    pictures(root)
    sources(root)
    return root


def info_of(method: str) -> dict:
    return {"method": method, "size": "nano", "weights": None, "options": {}}


def pictures(root: Path) -> None:
    """Write a picture of each kind that can be asked about."""
    nibabel, av = pytest.importorskip("nibabel"), pytest.importorskip("av")
    dicom = loaded("tests/deploy/inputs/conftest.py")
    rng = np.random.default_rng(0)
    gray = lambda *shape: rng.integers(0, 255, shape, dtype=np.uint8)  # noqa: E731
    Image.fromarray(gray(40, 48, 3)).save(root / "image.jpg")
    shutil.copytree(root / "polyps" / "images", root / "images")
    deep = rng.integers(-900, 900, (40, 48)).astype(np.int16)
    for name in ("scan.dcm", "scans/a/1.dcm", "scans/b/2.dcm"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        dicom.dataset(deep, PixelSpacing=[0.5, 0.5]).save_as(root / name, enforce_file_format=True)
    volume = rng.normal(size=(24, 20, 3)).astype(np.float32)
    nibabel.Nifti1Image(volume, np.eye(4)).to_filename(root / "liver.nii.gz")
    Image.fromarray(gray(1100, 1300, 3)).save(root / "slide.tif")
    stack = [Image.fromarray(gray(40, 48)) for _ in range(3)]
    stack[0].save(root / "stack.tif", save_all=True, append_images=stack[1:])
    with av.open(str(root / "clip.mp4"), "w") as video:
        stream = video.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(4):
            video.mux(stream.encode(av.VideoFrame.from_ndarray(gray(48, 64, 3), format="rgb24")))
        video.mux(stream.encode())


def sources(root: Path) -> None:
    """Write data sets as they are published: an archive with its prompt files, a COCO folder, a miniature."""
    fakes = loaded("tests/train/datasets/test_convert.py")
    files, _ = fakes.SOURCES["kvasir"]
    with zipfile.ZipFile(root / "kvasir-seg.zip", "w") as archive:
        for name, values in files.items():
            archive.writestr(name, fakes.encoded(values, name))
    anns = root / "medvlsm" / "data" / "kvasir_polyp" / "anns"
    anns.mkdir(parents=True)
    names = [Path(name).name for name in files if "/images/" in name]
    for split, some in (("train", names[:6]), ("val", names[6:8]), ("test", names[8:])):
        prompts = {"p0": "", "p1": "polyp"}
        told = [{"img_name": name, "mask_name": name, "prompts": prompts} for name in some]
        (anns / f"{split}.json").write_text(json.dumps(told))
    coco = loaded("tests/train/datasets/test_coco.py")
    for split, picture in (("train2017", "a.png"), ("val2017", "b.png")):
        (root / "my-coco" / split).mkdir(parents=True)
        Image.fromarray(coco.noise(0)).save(root / "my-coco" / split / picture)
        (root / "my-coco" / "annotations").mkdir(exist_ok=True)
        told = coco.coco(coco.polygon(7, 2, 2, 9, 2, 9, 9, 2, 9), names=(picture,))
        (root / "my-coco" / "annotations" / f"instances_{split}.json").write_text(told)
    shutil.copytree(root / "polyps", root / "miniatures" / "kvasir")
    write_dataset(root / "quickstart" / "data", 8, 4, 5, size=40, style="clinic", seed=7)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Let a training of the embedded size take two steps; nothing else is changed."""
    (tmp_path / "small.toml").write_text(SMALL)
    monkeypatch.setattr("vlseg.train.recipe_files.SMALL", tmp_path / "small.toml")


@pytest.fixture
def little_road(monkeypatch):
    """Let the quickstart walk on a model of 32 pixels and a few drawings."""
    few = {"SIZE": "nano", "SIDE": 40, "ROUNDS": 2, "IMAGES": {"train": 8, "val": 4, "test": 5}}
    recipe = {"RECIPE": {"batch_size": 4, "max_epochs": 1, "min_epochs": 1}}
    for name, value in (few | recipe).items():
        monkeypatch.setattr(f"vlseg.quickstart.{name}", value)


@pytest.fixture
def here(stage, tmp_path, monkeypatch) -> Path:
    """The stage's own copy for one page, as the current folder."""
    place = tmp_path / "page"
    shutil.copytree(stage, place, symlinks=True)
    monkeypatch.chdir(place)
    return place


def made_by(words: list[str]) -> list[str]:
    """Return what a command writes, which must not be there before it."""
    flags = [words[i + 1] for i, word in enumerate(words[:-1]) if word in ("--out", "--to", "--html", "--csv")]
    plain = [word for i, word in enumerate(words) if not word.startswith("-") and not words[i - 1].startswith("--")]
    after = {"export": plain[2:3], "deploy": plain[2:3], "data": plain[4:5] if "convert" in words else []}
    return [name for name in (*flags, *after.get(words[0], [])) if name not in ("jetson", "results/", "segs/")]


def run(line: str) -> str:
    """Run one command line in this process and return what it printed; an assertion where it did not end well."""
    _, *words = shlex.split(line)
    for name in made_by(words):
        path = Path(name)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["vlseg", *words])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
    assert code == 0, f"{line}\n{err.getvalue()[-2000:]}"
    return out.getvalue() + err.getvalue()


def runnable(page: Path) -> list:
    return [
        one
        for one in FENCES.fences(page)
        if not (one.needs() or one.followed or one.on) and one.language in ("sh", "python")
    ]


PAGES = [page for page in FENCES.pages() if runnable(page)]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_runs(page, here, small):
    ran = 0
    for fence in runnable(page):
        if fence.language == "python":
            exec(compile(fence.text, f"{page.name}", "exec"), given(page))
            ran += 1
        for line in fence.lines:
            if fence.needs(line):
                continue
            if line.startswith("vlseg "):
                run(line)
            elif line.startswith("python "):
                words = [sys.executable, *shlex.split(line)[1:]]
                subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
            else:
                pytest.fail(f"nobody runs {line!r}: mark its fence with needs=")
            ran += 1
    assert ran


def fences_on(what: str) -> list:
    return [fence for page in FENCES.pages() for fence in FENCES.fences(page) if fence.on == what]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("fence", fences_on("little"), ids=lambda fence: fence.page.name)
def test_what_takes_minutes_runs_on_little(fence, here, small, little_road):
    (here / "dsb2018_nuclei").symlink_to(here / "polyps")
    for line in fence.lines:
        for long, short in LITTLE.items():
            line = line.replace(long, short)
        run(line)


@pytest.fixture
def opened(here, tmp_path):
    """A context: `vlseg demo` with the words of a line, on a free port; its address."""
    page = loaded("tests/demo/conftest.py")

    @contextlib.contextmanager
    def serve(line: str):
        port = page.free_port()
        url, path = f"http://127.0.0.1:{port}", f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        words = ["env", f"PATH={path}", *shlex.split(line), "--port", str(port)]
        with open(tmp_path / "err", "wb") as err, subprocess.Popen(words, stderr=err) as process:
            try:
                page.wait_for(url, process)
                yield url
            finally:
                process.terminate()

    return serve


def open_to_all(fence) -> bool:
    """Is it the command that opens a page, and not one that asks it?"""
    return any("vlseg demo" in line for line in fence.lines)


@pytest.mark.slow
def test_the_page_opens_as_the_docs_open_it(opened):
    """With a name and a password, which are asked for."""
    (line,) = [line for fence in fences_on("page") if open_to_all(fence) for line in fence.lines]
    password, *_ = shlex.split(line)
    with opened(line) as url:
        status = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}"]
        asked = subprocess.run([*status, f"{url}/gradio_api/info"], capture_output=True, text=True, timeout=60)
        given = ["-F", "username=clinic", "-F", f"password={password.partition('=')[2]}", f"{url}/login"]
        let_in = subprocess.run([*status, *given], capture_output=True, text=True, timeout=60)
    assert (asked.stdout, let_in.stdout) == ("401", "200")


@pytest.mark.slow
def test_a_program_asks_the_page_as_the_docs_ask_it(opened, here):
    """The words of each fence, but for the port."""
    pytest.importorskip("gradio_client")
    Image.open(here / "image.jpg").save(here / "picture.png")
    told = []
    with opened("vlseg demo adapted.bundle") as url:
        for fence in (one for one in fences_on("page") if not open_to_all(one)):
            assert "http://127.0.0.1:7860" in fence.text
            shell = [sys.executable, "-c"] if fence.language == "python" else ["bash", "-euo", "pipefail", "-c"]
            words = [*shell, fence.text.replace("http://127.0.0.1:7860", url)]
            told.append(subprocess.run(words, capture_output=True, text=True, timeout=120))
    assert len(told) == 2 and not any(one.returncode for one in told), told
    assert ".png" in told[0].stdout and "event: complete" in told[1].stdout and "area_px" in told[1].stdout


# what two pages show alike is run once
CONSOLES = {one.text: page for page in FENCES.pages() for one in FENCES.fences(page) if one.language == "console"}


def form(line: str) -> str:
    """Return an output line without its numbers."""
    return re.sub(r"\d[\d,.]*(e[-+]\d+)?", "#", line.strip())


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("console", CONSOLES, ids=[page.name for page in CONSOLES.values()])
def test_what_a_console_shows_is_what_is_printed(console, here, small):
    """Line for line in its form; numbers are those of one machine, and dots stand for what was left out."""
    for block in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
        line, *expected = block.splitlines()
        printed = {form(one) for one in run(line).splitlines()}
        for one in expected:
            start = form(one.removesuffix("..."))
            assert any(found.startswith(start) for found in printed), f"{line}: no line like {one!r} in {printed}"


def test_the_form_of_a_line():
    assert form("epoch 0: lr 3.0e-03, 0.3 min") == form("epoch 17: lr 1e-03, 12 min") == "epoch #: lr #, # min"
    assert form("mask.png: 7.72% of the image") != form("mask.png: 7.72 % of the image")


def given(page: Path) -> dict:
    """Return what a snippet takes for granted."""
    if page.name != "kernels.md":
        return {}
    return {"x": torch.randn(3, 24), "down": torch.nn.Linear(24, 4), "up": torch.nn.Linear(4, 24)}


def test_what_a_command_writes_is_known():
    assert made_by(shlex.split("export runs/polyps polyps.bundle --precision fp16")) == ["polyps.bundle"]
    assert made_by(shlex.split("segment a.bundle image.jpg --prompt 'a b' --out mask.png")) == ["mask.png"]
    assert made_by(shlex.split("data convert coco my-coco data/mine")) == ["data/mine"]
    assert made_by(shlex.split("deploy polyps.bundle polyps.jetson --to jetson")) == ["polyps.jetson"]
    assert made_by(shlex.split("bench a b --html bench.html --batch 1")) == ["bench.html"]
