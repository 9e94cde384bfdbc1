"""Kills of whole processes at random points: what each job is, and how its result is told from a whole one's."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vlseg.deploy.errors import UserError
from vlseg.deploy.files import is_partial
from vlseg.deploy.manifest import Manifest
from vlseg.deploy.pixels import read_mask
from vlseg.deploy.tensorrt.plans import check_file, read_plans
from vlseg.train.models.runs import RUN, load_run

TESTS = Path(__file__).parents[1]
NANO = ("--size", "nano", "--set", "max_epochs=3", "--set", "min_epochs=1", "--set", "batch_size=2")
DOOR = "from vlseg.cli.door import main; main()"
FAKES = TESTS / "deploy" / "tensorrt"
FAKE = f"""
import sys, types
fakes = types.ModuleType("fakes")
fakes.__path__ = [{str(FAKES)!r}]
sys.modules["fakes"] = fakes
from fakes.fake_cuda import FakeCuda
from fakes.fake_trt import FakeTensorRT
from vlseg.deploy.tensorrt import build, prove
from vlseg.deploy.tensorrt.cuda import Cuda
gpu = FakeCuda()
trt = FakeTensorRT("10.16.1.11", gpu)
build.library.load = lambda: trt
build.Cuda = lambda: Cuda(gpu)
prove.ROUNDS, prove.WARMUP = 3, 1
"""
"""`vlseg build` on a GPU that there is not; the engines are the fake's, the files and their order the product's."""


@dataclass(frozen=True)
class Task:
    """A command that writes below `out`, and what must hold of `out` however often it was killed.

    Attributes:
        words: of `vlseg`.
        out: what it writes; deleted before each series.
        whole: raises where what a reader would take for whole is not, and returns whether it is all there.
        setup: code before the door.
        shared: `out` is a file's folder that was there before, so it is not deleted.
    """

    words: tuple[object, ...]
    out: Path
    whole: Callable[[Path], bool]
    setup: str = ""
    again: Callable[[Path], None] = lambda out: shutil.rmtree(out, ignore_errors=True)

    def start(self) -> subprocess.Popen:
        """Start it in a process of its own."""
        words = [sys.executable, "-c", f"{self.setup}\n{DOOR}", *map(str, self.words)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)


def seconds_of(task: Task) -> float:
    """Return how long a whole run takes; it must end well and leave all that it should."""
    task.again(task.out)
    start = time.monotonic()
    going = task.start()
    _, err = going.communicate(timeout=600)
    assert going.returncode == 0 and task.whole(task.out), err
    return time.monotonic() - start


def kill_often(task: Task, kills: int, seed: int, seconds: float) -> Iterator[float]:
    """Kill the task `kills` times at drawn moments of a whole run; yield each moment as a share of it.

    After each kill nothing that is not whole may look so; every few kills, and at the end, it runs to its end.
    """
    draw, left = random.Random(seed), 0
    task.again(task.out)
    for _ in range(kills):
        share = draw.random()
        going = task.start()
        try:
            going.wait(share * seconds)
        except subprocess.TimeoutExpired:
            going.send_signal(signal.SIGKILL)
        _, err = going.communicate(timeout=60)
        assert going.returncode in (0, -signal.SIGKILL), err
        there = task.whole(task.out)
        assert there or going.returncode != 0, err
        yield share
        left += 1
        if there or left == 3:
            finish(task)
            task.again(task.out)
            left = 0
    finish(task)


def finish(task: Task) -> None:
    """Run it to its end over whatever there is; where it is all there already, being told so is an end too."""
    before = task.whole(task.out)
    going = task.start()
    _, err = going.communicate(timeout=600)
    assert going.returncode == 0 or (before and "exists already" in err), err
    assert task.whole(task.out), err


def tasks(data: Path, run: Path, bundle: Path, pictures: Path, place: Path) -> dict[str, Task]:
    """Return the four: a training on `data`, an export of `run`, engines of `bundle`, and a folder of `pictures`."""

    def no_engines(out: Path) -> None:
        shutil.rmtree(out / "engines", ignore_errors=True)

    train = ("train", "clipseg/dense-vl", "--data", data, "--out", place / "run", *NANO)
    segment = ("segment", bundle, pictures, "--prompt", "red spot", "--out", place / "masks")
    return {
        "train": Task(train, place / "run", whole_run),
        "export": Task(("export", run, place / "bundle", "--folds", "none"), place / "bundle", whole_bundle),
        "build": Task(("build", bundle), bundle, whole_engines, FAKE, no_engines),
        "segment": Task(segment, place / "masks", lambda out: whole_masks(out, pictures)),
    }


def whole_run(out: Path) -> bool:
    """Is there a run? Then it must load, with all its companions as they were written."""
    if not (out / RUN).exists():
        return False
    assert load_run(out)[1]["epochs"] == 3 and (out / "predictions.png").is_file() and (out / "metrics.csv").is_file()
    return True


def whole_bundle(out: Path) -> bool:
    """Is there a bundle? Then every file of it must be there, with its hash, and its parity certificate."""
    if not out.exists():
        return False
    assert Manifest.load(out).parity["passed"]
    return True


def whole_engines(out: Path) -> bool:
    """Are there three engines? Those that are listed must be the files that were written."""
    plans = read_plans(out)
    for plan in plans:
        check_file(out, plan)
    Manifest.load(out)
    return len(plans) == 3


def whole_masks(out: Path, pictures: Path) -> bool:
    """Is there a mask for each picture? Those there are must be whole, in the size of their picture."""
    found = 0
    for path in sorted(pictures.iterdir()):
        mask = out / f"{path.stem}.png"
        if mask.exists():
            with Image.open(path) as picture:
                assert read_mask(mask).shape == (picture.height, picture.width)
            found += 1
    names = (
        {path.name for path in out.iterdir() if not is_partial(path) and path.name[0] != "."} if out.exists() else ()
    )
    assert len(names) == found
    return found == len(list(pictures.iterdir()))


def draw_pictures(folder: Path, count: int = 40) -> Path:
    """Write pictures of noise."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (200, 260, 3), dtype=np.uint8)).save(folder / f"{i:03}.png")
    return folder


def refuses(call: Callable[[], object]) -> bool:
    """Does a call end in a UserError?"""
    try:
        call()
    except UserError:
        return True
    return False
