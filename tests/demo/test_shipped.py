import shutil
import tarfile

import numpy as np
import pytest

from vlseg.demo import shipped as module
from vlseg.demo.examples import write_examples
from vlseg.demo.share import shares
from vlseg.demo.shipped import shipped
from vlseg.deploy.manifest import Manifest
from vlseg.deploy.metrics import dice
from vlseg.deploy.pixels import read_image, read_mask
from vlseg.deploy.segmenter import Segmenter


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


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The package's own bundles, as `vlseg demo` unpacks them."""
    return {path.name: path for path in shipped(tmp_path_factory.mktemp("own"))}


def test_the_packages_own_are_whole_and_proven(own):
    assert list(own) == ["base", "clinic", "nuclei"]
    for folder in own.values():
        manifest = Manifest.load(folder)
        assert manifest.parity["passed"] and manifest.parity["dice_min"] >= 0.999
        card = (folder / "MODEL_CARD.md").read_text()
        assert "MODEL_CARD.md" in manifest.files and "not a medical device" in card and manifest.method in card
    hashes = {Manifest.load(folder).weights_hash for folder in own.values()}
    assert len(hashes) == 1
    assert module.ARCHIVE.stat().st_size < 12.5e6


def test_each_adapter_is_better_than_the_base_at_what_it_was_made_for(own, tmp_path):
    examples = write_examples(tmp_path)
    for name in ("nuclei", "clinic"):
        chosen = [example for example in examples if example.bundle == name]
        scores = {bundle: np.mean([scored(own[bundle], example) for example in chosen]) for bundle in ("base", name)}
        assert chosen and scores[name] > scores["base"] + 0.1, scores


def test_the_first_example_is_answered_well_by_the_base(own, tmp_path):
    assert scored(own["base"], write_examples(tmp_path)[0]) > 0.9


@pytest.mark.parametrize("name", ["nuclei", "clinic"])
def test_they_tell_what_their_adapters_add(own, name, tmp_path):
    image = read_image(write_examples(tmp_path)[0].file)
    share = shares(own[name], Manifest.load(own[name]), image, threads=1)
    assert share.shape[1:] == (22, 22) and np.isfinite(share).all() and 0.01 < share.mean() < 10
    assert shares(own["base"], Manifest.load(own["base"]), image, threads=1) is None


def scored(folder, example):
    with Segmenter.open(folder, threads=1) as segmenter:
        return dice(segmenter.segment(read_image(example.file), example.prompt), read_mask(example.mask))
