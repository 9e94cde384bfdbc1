import csv
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from vlseg.deploy import rows
from vlseg.deploy.errors import UserError


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_first_row_fixes_the_columns(tmp_path):
    path = tmp_path / "new" / "measured.csv"
    rows.append_row(path, {"stage": "image", "ms": 1.5})
    rows.append_row(path, {"ms": 2.5, "stage": 'a,"b"\nc'})
    first, second = read(path)
    assert list(first) == ["stage", "ms", *rows.CIRCUMSTANCES]
    assert (first["stage"], first["ms"]) == ("image", "1.5")
    assert (second["stage"], second["ms"]) == ('a,"b"\nc', "2.5")
    assert first["cpu"] and first["date"].endswith("Z") and "numpy=" in first["versions"]


@pytest.mark.parametrize("row", [{"ms": 1}, {"ms": 1, "stage": "x", "more": 2}, {"ms": 1, "other": 2}])
def test_other_columns_are_refused(tmp_path, row):
    rows.append_row(tmp_path / "m.csv", {"stage": "image", "ms": 1})
    before = (tmp_path / "m.csv").read_bytes()
    with pytest.raises(UserError, match=r"m\.csv has other columns"):
        rows.append_row(tmp_path / "m.csv", row)
    assert (tmp_path / "m.csv").read_bytes() == before


def test_what_the_row_says_wins(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    rows.append_row(tmp_path / "m.csv", {"ms": 1})
    rows.append_row(tmp_path / "m.csv", {"ms": 1, "threads": 2})
    assert [row["threads"] for row in read(tmp_path / "m.csv")] == ["7", "2"]


def test_many_writers_lose_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "commit", lambda: "abc")
    path = tmp_path / "m.csv"
    rows.append_row(path, {"i": -1})
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: rows.append_row(path, {"i": i}), range(24)))
    assert sorted(int(row["i"]) for row in read(path)) == list(range(-1, 24))


def git(root, *words):
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    return subprocess.run(
        ["git", "-C", str(root), *identity, *words], check=True, capture_output=True, text=True
    ).stdout


def test_commit_of_a_clean_a_changed_and_no_checkout(tmp_path, monkeypatch):
    (tmp_path / "deploy").mkdir()
    monkeypatch.setattr(rows, "__file__", str(tmp_path / "deploy" / "rows.py"))
    assert rows.commit() == ""
    git(tmp_path, "init", "-q")
    assert rows.commit() == ""
    (tmp_path / "a").write_text("x")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "x")
    head = git(tmp_path, "rev-parse", "--short=12", "HEAD").strip()
    assert rows.commit() == head
    (tmp_path / "a").write_text("y")
    assert rows.commit() == f"{head}+"
    monkeypatch.setattr(rows, "__file__", str(tmp_path / "deploy" / "site-packages" / "rows.py"))
    assert rows.commit() == ""
