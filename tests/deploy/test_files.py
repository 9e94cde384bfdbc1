import errno
import hashlib
import os
import subprocess
import sys

import pytest

from vlseg.deploy import files
from vlseg.deploy.errors import UserError


def test_sha256_is_hashlib_s(tmp_path):
    data = os.urandom(3_000_001)
    (tmp_path / "f").write_bytes(data)
    assert files.sha256(tmp_path / "f") == hashlib.sha256(data).hexdigest()


def fill(folder, text="new"):
    (folder / "sub").mkdir()
    (folder / "sub" / "file").write_text(text)
    (folder / "run.json").write_text("{}")


def test_a_folder_appears_whole(tmp_path):
    dest = tmp_path / "deep" / "run"
    with files.atomic_folder(dest, "run.json") as partial:
        fill(partial)
        assert not dest.exists()
    assert (dest / "sub" / "file").read_text() == "new"
    assert os.listdir(tmp_path / "deep") == ["run"]


def test_a_failing_block_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), files.atomic_folder(tmp_path / "run", "run.json") as partial:
        fill(partial)
        raise ZeroDivisionError
    assert not os.listdir(tmp_path)


def test_the_marker_must_be_written(tmp_path):
    with pytest.raises(RuntimeError, match=r"run\.json"), files.atomic_folder(tmp_path / "run", "run.json"):
        pass
    assert not os.listdir(tmp_path)


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "run").mkdir()
    with files.atomic_folder(tmp_path / "run", "run.json") as partial:
        fill(partial)
    assert (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_not_ours_is_never_touched(tmp_path, overwrite):
    dest = tmp_path / "thesis"
    dest.mkdir()
    (dest / "only_copy.tex").write_text("years")
    with pytest.raises(UserError, match=r"not ours.*run\.json"), files.atomic_folder(dest, "run.json", overwrite):
        raise AssertionError("the block must not start")
    assert (dest / "only_copy.tex").read_text() == "years"
    assert os.listdir(tmp_path) == ["thesis"]


def test_a_folder_that_becomes_foreign_meanwhile_is_not_touched(tmp_path):
    dest = tmp_path / "run"
    with pytest.raises(UserError, match="not ours"), files.atomic_folder(dest, "run.json", overwrite=True) as partial:
        fill(partial)
        dest.mkdir()
        (dest / "other").write_text("x")
    assert os.listdir(dest) == ["other"]


def test_ours_needs_overwrite_and_is_then_swapped(tmp_path):
    dest = tmp_path / "run"
    with files.atomic_folder(dest, "run.json") as partial:
        fill(partial, "old")
        (partial / "stale").write_text("x")
    with pytest.raises(UserError, match="exists already"), files.atomic_folder(dest, "run.json") as partial:
        raise AssertionError("the block must not start")
    with files.atomic_folder(dest, "run.json", overwrite=True) as partial:
        fill(partial, "new")
        assert (dest / "sub" / "file").read_text() == "old"
    assert (dest / "sub" / "file").read_text() == "new"
    assert not (dest / "stale").exists()
    assert os.listdir(tmp_path) == ["run"]


def test_a_swap_that_fails_brings_the_old_one_back(tmp_path, monkeypatch):
    dest = tmp_path / "run"
    with files.atomic_folder(dest, "run.json") as partial:
        fill(partial, "old")
    replace, calls = os.replace, []

    def second_fails(a, b):
        calls.append(a)
        if len(calls) == 2:
            raise OSError(errno.EACCES, "no")
        replace(a, b)

    monkeypatch.setattr(os, "replace", second_fails)
    with pytest.raises(UserError, match="cannot write"), files.atomic_folder(dest, "run.json", True) as partial:
        fill(partial, "new")
    assert (dest / "sub" / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["run"]


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(UserError, match="is a file"), files.atomic_folder(tmp_path / "run", "run.json", True):
        raise AssertionError("the block must not start")


def test_what_a_killed_process_leaves_is_marked_partial(tmp_path):
    code = (
        "import os, sys\nfrom vlseg.deploy.files import atomic_folder\n"
        "with atomic_folder(sys.argv[1], 'run.json') as p:\n"
        "    (p / 'run.json').write_text('{}'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")]).returncode == 9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".") and files.is_partial(left) and not (tmp_path / "run").exists()
    with files.atomic_folder(tmp_path / "run", "run.json") as partial:
        fill(partial)
    assert (tmp_path / "run" / "sub" / "file").exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, code):
    with pytest.raises(UserError, match=r"cannot write .*run: "), files.atomic_folder(tmp_path / "run", "m") as partial:
        (partial / "half").write_text("x")
        raise OSError(code, os.strerror(code))
    assert not os.listdir(tmp_path)


def test_other_errors_of_the_block_pass_through(tmp_path):
    with pytest.raises(FileNotFoundError), files.atomic_folder(tmp_path / "run", "m"):
        (tmp_path / "nowhere").read_text()


def test_atomic_write_replaces_or_keeps(tmp_path, monkeypatch):
    path = tmp_path / "f.txt"
    files.atomic_write(path, "grüße")
    assert path.read_bytes() == "grüße".encode()
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(errno.ENOSPC, "disk full")))
    with pytest.raises(UserError, match="disk full"):
        files.atomic_write(path, b"other")
    assert path.read_bytes() == "grüße".encode()
    assert os.listdir(tmp_path) == ["f.txt"]


def test_atomic_write_without_a_folder(tmp_path):
    with pytest.raises(UserError, match="cannot write"):
        files.atomic_write(tmp_path / "no" / "f", b"")


def test_json_there_and_back(tmp_path):
    files.write_json(tmp_path / "v.json", {"a": [1, 2.5, None], "b": "ü"})
    assert files.read_json(tmp_path / "v.json") == {"a": [1, 2.5, None], "b": "ü"}
    with pytest.raises(ValueError, match="Out of range"):
        files.write_json(tmp_path / "v.json", float("nan"))


@pytest.mark.parametrize("data", [b"{", b"\xff\xfe", b""])
def test_bad_json_names_the_file(tmp_path, data):
    (tmp_path / "v.json").write_bytes(data)
    with pytest.raises(UserError, match=r"v\.json is not valid JSON"):
        files.read_json(tmp_path / "v.json")


def test_inside(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "in" / "a").write_text("x")
    (tmp_path / "in" / "alias").symlink_to(tmp_path / "in" / "a")
    assert files.inside(tmp_path / "in", "a") == tmp_path / "in" / "a"
    assert files.inside(tmp_path / "in", "alias") is not None
    assert files.inside(tmp_path / "in", "sub/not_yet") is not None
    for name in ("", "../secret", "sub/../../secret", "/etc/passwd", "link", "..\\secret", "a\0b"):
        assert files.inside(tmp_path / "in", name) is None, name
