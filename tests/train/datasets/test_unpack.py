import io
import tarfile
import zipfile

import pytest

from vlseg.deploy.errors import UserError
from vlseg.train.datasets import unpack as module
from vlseg.train.datasets.tree import Part, opened
from vlseg.train.datasets.unpack import is_archive, stem_of, unpack


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def tarred(path, members, links=()):
    with tarfile.open(path, "w:gz") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            file.addfile(info)
    return path


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize("name", ["../out.txt", "/etc/out.txt", "a/../../out.txt"])
def test_no_member_leaves_the_folder(tmp_path, make, name):
    archive = make(tmp_path / ("a.zip" if make is zipped else "a.tar.gz"), {"ok.txt": b"x", name: b"evil"})
    inner = tmp_path / "deep" / "into"
    inner.mkdir(parents=True)
    with pytest.raises(UserError, match="leads out"):
        unpack(archive, inner)
    assert not list(tmp_path.rglob("out.txt"))


def test_links_are_left_out(tmp_path):
    archive = tarred(tmp_path / "a.tgz", {"a/b.txt": b"x"}, [("a/link", "/etc/passwd"), ("up", "..")])
    unpack(archive, tmp_path)
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"x" and not (tmp_path / "a" / "link").exists()
    assert not (tmp_path / "up").exists()


@pytest.mark.parametrize("make", [zipped, tarred])
def test_bombs_are_stopped(tmp_path, make, monkeypatch):
    monkeypatch.setattr(module, "FLOOR", 0)
    archive = make(tmp_path / ("a.zip" if make is zipped else "a.tar.gz"), {"zeros": bytes(8_000_000)})
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(UserError, match="unpacks to more"):
        unpack(archive, into)
    assert sum(path.stat().st_size for path in into.iterdir()) < 4_000_000


def test_too_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MEMBERS", 3)
    with pytest.raises(UserError, match="more than 3 members"):
        unpack(zipped(tmp_path / "a.zip", {str(i): b"" for i in range(4)}), tmp_path)


def test_damage_and_unknown_kinds(tmp_path):
    whole = tarred(tmp_path / "a.tar.gz", {"x": bytes(range(256)) * 400}).read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "no.zip").write_bytes(b"no zip")
    for name in ("cut.tar.gz", "no.zip"):
        with pytest.raises(UserError, match="cannot unpack"):
            unpack(tmp_path / name, tmp_path)
    with pytest.raises(UserError, match="unpack it"):
        is_archive(tmp_path / "CVC-ClinicDB.rar")
    assert stem_of(tmp_path / "a.b.tar.gz") == "a.b"


def test_a_tree_reads_folders_and_archives_alike(tmp_path):
    source = tmp_path / "source"
    (source / "images").mkdir(parents=True)
    (source / "images" / "a.png").write_bytes(b"a")
    (source / ".hidden").write_bytes(b"h")
    (source / "out").symlink_to("/etc/passwd")
    zipped(source / "more.zip", {"images/b.png": b"b", "__MACOSX/images/._b.png": b"m"})
    with opened(source, tmp_path) as tree:
        assert list(tree.files) == ["images/a.png", "more/images/b.png"]
        found = tree.find(Part(r"images/(?P<key>\w)\.png$", "images/a.png"))
        assert [groups["key"] for groups, _ in found] == ["a", "b"]
        assert tree.named("images/b.png").read_bytes() == b"b" and tree.named("c.png") is None
    assert not list(tmp_path.glob(".unpacked-*"))
    with opened(source / "more.zip", tmp_path) as tree:
        assert list(tree.files) == ["more/images/b.png"]
    for bad, says in ((tmp_path / "none", "there is no"), (source / "images" / "a.png", "holds no data")):
        with pytest.raises(UserError, match=says), opened(bad, tmp_path):
            pass
