"""Two processes never work in one folder, and one that was killed keeps nobody out."""

import errno
import os
import subprocess
import sys

import pytest

from vlseg.deploy.errors import UserError
from vlseg.train.alone import alone, check_free
from vlseg.train.fit import fit

HOLD = """
import sys, time
from pathlib import Path
from vlseg.train.alone import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds `tmp_path/lock` until it is killed."""
    words = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as going:
        assert going.stdout and going.stdout.readline() == "held\n"
        yield going
        going.kill()


def test_who_holds_it_is_told_and_a_kill_frees_it(tmp_path, holder):
    path = tmp_path / "lock"
    for ask in (check_free, lambda path: alone(path).__enter__()):
        with pytest.raises(UserError, match=rf"in use by process {holder.pid} on .* since \d{{4}}-.*: wait for its en"):
            ask(path)
    holder.kill()
    holder.wait()
    assert path.is_file()
    check_free(path)
    with alone(path):
        assert f'"pid": {os.getpid()},' in path.read_text()
    assert not path.exists()


def test_a_lock_that_was_deleted_meanwhile_is_not_held(tmp_path, monkeypatch):
    """Its holder deletes it after another has opened it: what that one then holds, a third would not see."""
    import fcntl

    path, flock = tmp_path / "lock", fcntl.flock

    def late(lock, how):
        monkeypatch.setattr(fcntl, "flock", flock)
        path.unlink()
        flock(lock, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with alone(path), pytest.raises(UserError, match="in use"):
        check_free(path)


def test_a_lock_without_words_is_held_too(tmp_path, holder):
    (tmp_path / "lock").write_text("")
    with pytest.raises(UserError, match="in use by another process"):
        check_free(tmp_path / "lock")


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match="cannot write"), alone(tmp_path / "absent" / "lock"):
        pass


def test_a_disk_without_room_for_the_lock(tmp_path, monkeypatch):
    def full(handle, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(UserError, match=r"cannot write .*No space left"), alone(tmp_path / "lock"):
        pass
    assert not (tmp_path / "lock").exists()


def test_a_second_training_into_one_folder_is_refused(shapes, tmp_path, nano):
    """Told before anything is read or written; the first is not disturbed, and goes on to its end."""
    out, refused = tmp_path / "run", []

    def meanwhile(line: str) -> None:
        if "epoch 0" in line:
            before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
            for data, resume in ((shapes, True), (shapes, False), (tmp_path / "nowhere", True)):
                with pytest.raises(UserError, match=rf"{out} is in use by process {os.getpid()} on"):
                    fit(nano, data, out, resume=resume, say=lambda line: None)
                refused.append(data)
            assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before

    fit(nano, shapes, out, say=meanwhile)
    assert len(refused) == 3 and not [path for path in out.iterdir() if "lock" in path.name]


def test_a_training_that_began_meanwhile_is_not_overrun(shapes, tmp_path, nano, monkeypatch):
    """The second asked before the first began, and read its images while the first came to its end."""
    out, begun = tmp_path / "run", []

    def first(line: str) -> None:
        if not begun:
            begun.append(True)
            fit(nano, shapes, out, say=lambda line: None)

    monkeypatch.setattr("vlseg.train.fit.say_sentences", lambda *words: first(""))
    said = []
    fit(nano, shapes, out, say=said.append)
    assert begun and "finished already" in said[-1]


def test_what_a_killed_training_left_is_a_run_s(shapes, tmp_path, nano):
    out = tmp_path / "run"
    out.mkdir()
    (out / ".training.lock").write_text('{"pid": 1, "machine": "x", "since": "y"}')
    fit(nano, shapes, out, say=lambda line: None)
    assert (out / "run.json").is_file() and not (out / ".training.lock").exists()
