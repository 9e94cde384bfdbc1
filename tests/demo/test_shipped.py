import shutil
import tarfile

import pytest

from vlseg.demo import shipped as module
from vlseg.demo.shipped import shipped


def test_bundles_come_out_whole_and_the_base_first(bright, tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "some.tar.xz", "w:xz") as archive:
        for name in ("adapted", "base"):
            archive.add(bright, name)
    monkeypatch.setattr(module, "ARCHIVE", tmp_path / "some.tar.xz")
    found = shipped(tmp_path / "scratch")
    assert [path.name for path in found] == ["base", "adapted"]
    for path in found:
        assert sorted(p.name for p in path.iterdir()) == sorted(p.name for p in bright.iterdir())
        assert (path / "image.onnx").read_bytes() == (bright / "image.onnx").read_bytes()


def test_a_name_that_leads_out_is_refused(bright, tmp_path, monkeypatch):
    shutil.copy(bright / "manifest.json", tmp_path / "manifest.json")
    with tarfile.open(tmp_path / "bad.tar.xz", "w:xz") as archive:
        archive.add(tmp_path / "manifest.json", "../../evil/manifest.json")
    monkeypatch.setattr(module, "ARCHIVE", tmp_path / "bad.tar.xz")
    with pytest.raises(tarfile.OutsideDestinationError):
        shipped(tmp_path / "scratch")
