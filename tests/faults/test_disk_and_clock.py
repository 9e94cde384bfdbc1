"""A disk that is full, two processes in one place, a clock that jumps."""

import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from vlseg.deploy.errors import UserError
from vlseg.deploy.files import atomic_folder
from vlseg.deploy.manifest import Manifest
from vlseg.train.fit import fit

from .killing import NANO, draw_pictures

DOOR = "import resource, sys; from vlseg.cli.door import main\n{limit}main()"
LIMIT = "resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size})); "


def silent(line: str) -> None:
    """Say nothing."""


def vlseg(*words, limit: str = "") -> subprocess.CompletedProcess:
    code = DOOR.format(limit="import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); " + limit if limit else "")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


def one_sentence(done: subprocess.CompletedProcess) -> bool:
    *_, last = done.stderr.splitlines()
    return done.returncode in (1, 2) and "Traceback" not in done.stderr and last.startswith(("vlseg: ", "  "))


@contextmanager
def small_disk(where: Path, kib: int):
    """Mount a file system in memory, of so many KiB; skip where that may not be done."""
    where.mkdir()
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", where], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"no small disk can be mounted here: {made.stderr.strip()}")
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)


@pytest.mark.slow
def test_a_disk_that_is_too_small(toy_bundle, shapes, trained_run, tmp_path):
    """Each command says so in a sentence, leaves what was there, and ends well where there is room again."""
    pictures = draw_pictures(tmp_path / "pictures", 12)
    with small_disk(tmp_path / "disk", 48) as disk:
        commands = {
            "train": ("train", "clipseg/dense-vl", "--data", shapes, "--out", disk / "run", *NANO),
            "export": ("export", trained_run, disk / "bundle", "--folds", "none"),
            "segment": (
                "segment",
                toy_bundle,
                pictures,
                "--prompt",
                "red spot",
                "--as",
                "overlay",
                "--out",
                disk / "m",
            ),
        }
        for name, words in commands.items():
            (disk / "mine.txt").write_text("mine")
            done = vlseg(*words)
            assert one_sentence(done) and "No space left" in done.stderr, (name, done.stderr)
            assert (disk / "mine.txt").read_text() == "mine"
            assert not (disk / "bundle").exists() and not (disk / "run" / "run.json").exists()
            subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
            done = vlseg(*words)
            assert done.returncode == 0, (name, done.stderr)
            for path in disk.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            subprocess.run(["mount", "-o", "remount,size=48k", disk], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "export"])
def test_files_that_may_not_grow(shapes, trained_run, tmp_path, command):
    """A quota in place of a small disk; it needs no root."""
    words = {
        "train": ("train", "clipseg/dense-vl", "--data", shapes, "--out", tmp_path / "out", *NANO),
        "export": ("export", trained_run, tmp_path / "out", "--folds", "none"),
    }[command]
    done = vlseg(*words, limit=LIMIT.format(size=4000))
    assert one_sentence(done) and "File too large" in done.stderr, done.stderr
    assert not (tmp_path / "out" / "run.json").exists() and not (tmp_path / "out" / "manifest.json").exists()
    assert vlseg(*words).returncode == 0


RACE = """
import sys
from vlseg.deploy.errors import UserError
from vlseg.deploy.files import atomic_folder
dest, name, overwrite, rounds = sys.argv[1], sys.argv[2], sys.argv[3] == "yes", int(sys.argv[4])
made = 0
sys.stdin.readline()
for i in range(rounds):
    try:
        with atomic_folder(f"{dest}/{0 if overwrite else i}", "run.json", overwrite) as folder:
            for part in ("run.json", "a", "b"):
                (folder / part).write_text(f"{name} {i}")
        made += 1
    except UserError as error:
        assert "exists already" in str(error) or "other processes" in str(error), error
print(made)
"""


@pytest.mark.parametrize("overwrite", [True, False])
def test_two_processes_that_write_to_one_place(tmp_path, overwrite):
    """Without leave to overwrite one of them wins; with it each may, and what stands is always of one of them."""
    rounds, dest = 60, tmp_path / "dest"
    dest.mkdir()
    words = [sys.executable, "-c", RACE, dest]
    both = [
        subprocess.Popen([*map(str, words), name, "yes" if overwrite else "no", str(rounds)], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for name in "xy"
    ]  # fmt: skip
    for one in both:
        assert one.stdin
        one.stdin.write("go\n")
        one.stdin.flush()
    ended = [one.communicate(timeout=120) for one in both]
    assert all(one.returncode == 0 for one in both), ended
    made = sum(int(out) for out, _ in ended)
    folders = sorted(dest.iterdir())
    assert made == (2 * rounds if overwrite else rounds) or (overwrite and made >= rounds)
    assert len(folders) == (1 if overwrite else rounds), folders
    for folder in folders:
        assert len({(folder / part).read_text() for part in ("run.json", "a", "b")}) == 1


@pytest.mark.slow
def test_two_exports_to_one_bundle(trained_run, tmp_path):
    code = DOOR.format(limit="")
    words = [sys.executable, "-c", code, "export", str(trained_run), str(tmp_path / "bundle"), "--folds", "none"]
    both = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ended = [one.communicate(timeout=300)[1] for one in both]
    assert sorted(one.returncode for one in both) == [0, 2], ended
    assert sum("exists already" in err for err in ended) == 1 and not any("Traceback" in err for err in ended)
    assert Manifest.load(tmp_path / "bundle").parity["passed"]
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_folder_that_steps_aside_while_it_is_looked_at_is_no_file(tmp_path, monkeypatch):
    """Another process swaps its own into place at the worst moment."""
    dest, aside, looks, exists = tmp_path / "dest", tmp_path / "aside", [], Path.exists
    with atomic_folder(dest, "run.json") as folder:
        (folder / "run.json").write_text("first")

    def late(path):
        looks.extend([path] * (path == dest))
        if path == dest and len(looks) == 2:
            aside.rename(dest)
        found = exists(path)
        if path == dest and len(looks) == 1:
            dest.rename(aside)
        return found

    monkeypatch.setattr(Path, "exists", late)
    with atomic_folder(dest, "run.json", overwrite=True) as folder:
        (folder / "run.json").write_text("ours")
    assert (dest / "run.json").read_text() == "ours" and len(looks) > 2


def test_names_that_another_process_is_deleting_are_read_again(tmp_path, monkeypatch):
    dest, aside, names = tmp_path / "dest", tmp_path / "aside", os.listdir
    with atomic_folder(dest, "run.json") as folder:
        (folder / "run.json").write_text("first")

    def late(path):
        if path != dest or aside.exists():
            return names(path)
        dest.rename(aside)
        shutil.copytree(aside, dest)
        return ["b"]  # without the marker: a folder of strangers, it would seem

    monkeypatch.setattr(os, "listdir", late)
    with atomic_folder(dest, "run.json", overwrite=True) as folder:
        (folder / "run.json").write_text("ours")
    assert aside.exists() and (dest / "run.json").read_text() == "ours"


def test_a_folder_that_appears_between_the_look_and_the_rename_is_kept(tmp_path, monkeypatch):
    dest, replace = tmp_path / "dest", os.replace

    def late(a, b):
        monkeypatch.setattr(os, "replace", replace)
        dest.mkdir()
        (dest / "run.json").write_text("theirs")
        replace(a, b)

    with pytest.raises(UserError, match="exists already"), atomic_folder(dest, "run.json") as folder:
        (folder / "run.json").write_text("mine")
        monkeypatch.setattr(os, "replace", late)
    assert (dest / "run.json").read_text() == "theirs" and list(tmp_path.iterdir()) == [dest]


@pytest.mark.parametrize("jump", [-7 * 24 * 3600.0, 7 * 24 * 3600.0])
def test_a_clock_that_jumps_neither_ends_nor_prolongs_a_training(shapes, tmp_path, nano, monkeypatch, jump):
    """A week with every look at it; the budget of two minutes is counted by another clock."""
    looks = iter(range(1, 10**9))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump * next(looks))
    info = fit(nano.replace(max_minutes=2.0), shapes, tmp_path / "run", say=silent)
    assert info["epochs"] == 3 and 0 <= info["minutes"] < 2


def test_no_span_is_taken_from_the_clock_of_the_day():
    root = Path(__file__).parents[2]
    told = re.compile(r"\btime\.time\(|\btime_ns\(|datetime\.(now|utcnow)\([^)]*\)\s*-|from time import .*\btime\b")
    for room in ("kernels", "deploy", "train", "export", "demo", "cli"):
        for path in (root / room).rglob("*.py"):
            found = [line for line in path.read_text().splitlines() if told.search(line)]
            assert not found, (path, found)


def test_a_journal_whose_source_got_older_is_asked_again(tmp_path):
    """A clock that went back gives a changed file an older date; any other date is another file."""
    from vlseg.deploy.journal import Journal

    (source := tmp_path / "a.png").write_bytes(b"x")
    journal = Journal(tmp_path, {})
    journal.note(source, [source], [], [])
    assert Journal(tmp_path, {}).done(source)
    os.utime(source, (1, 1))
    assert Journal(tmp_path, {}).done(source) is None
