"""One bit of one file changes, anywhere: the file is refused and named, or it was never read."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from vlseg.deploy.errors import UserError
from vlseg.deploy.journal import NAME, Journal
from vlseg.deploy.manifest import MANIFEST, Manifest
from vlseg.deploy.segmenter import Segmenter
from vlseg.train.cache import DiskStore
from vlseg.train.models.runs import RUN, TRAINED, load_run
from vlseg.train.reports import _read
from vlseg.train.state import SafeCheckpointIO

PLACES = 60  # bits of each file, drawn; the first and the last byte are always among them


def flips(path: Path, places: int = PLACES, seed: int = 0):
    """Yield after each of some drawn changes of one bit, and put the byte back."""
    whole, rng = path.read_bytes(), np.random.default_rng(seed)
    drawn = np.concatenate([[0, 8 * len(whole) - 1], rng.integers(0, 8 * len(whole), places)])
    for place in drawn.tolist():
        data = bytearray(whole)
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(data)
        yield f"bit {place} of {path.name}"
    path.write_bytes(whole)


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", ["toy_bundle", "fixed_bundle"])
def test_every_file_of_a_bundle(kind, request):
    bundle = request.getfixturevalue(kind)
    before = Manifest.load(bundle)
    for path in files_of(bundle):
        for where in flips(path):
            with pytest.raises(UserError) as refusal:
                pytest.fail(f"{where} was not seen: {Segmenter.open(bundle)}")
            assert path.name in str(refusal.value) or (path.name == MANIFEST and str(bundle) in str(refusal.value)), (
                where
            )
    assert Manifest.load(bundle) == before


def test_every_file_of_a_run(trained_run, tmp_path):
    run = shutil.copytree(trained_run, tmp_path / "run")
    assert {RUN, TRAINED, "metrics.csv", "predictions.png"} <= {path.name for path in files_of(run)}
    for path in files_of(run):
        for where in flips(path):
            with pytest.raises(UserError) as refusal:
                pytest.fail(f"{where} was not seen: {load_run(run)}")
            assert path.name in str(refusal.value) or path.name == RUN, where
    load_run(run)


def test_a_run_from_before_there_were_seals_is_read(trained_run, tmp_path):
    run = shutil.copytree(trained_run, tmp_path / "run")
    info = json.loads((run / RUN).read_text())
    (run / RUN).write_text(json.dumps({name: value for name, value in info.items() if name not in ("seal", "files")}))
    assert load_run(run)[1]["threshold"] == info["threshold"]


def test_a_run_needs_its_weights_and_no_more(trained_run, tmp_path):
    run = shutil.copytree(trained_run, tmp_path / "run")
    (run / "predictions.png").unlink()
    load_run(run)
    (run / TRAINED).unlink()
    with pytest.raises(UserError, match=TRAINED):
        load_run(run)


def test_the_state_of_a_training(tmp_path):
    path, keeper = tmp_path / "last.safetensors", SafeCheckpointIO()
    state = {"weights": {"a": torch.randn(40), "b": torch.tensor(True)}, "epoch": 3, "rates": (0.1, float("inf"))}
    keeper.save_checkpoint(state, path)
    for where in flips(path, 200):
        with pytest.raises(UserError, match=r"last\.safetensors is not a whole checkpoint.*delete it"):
            pytest.fail(f"{where} was not seen: {keeper.load_checkpoint(path)}")
    assert torch.equal(keeper.load_checkpoint(path)["weights"]["a"], state["weights"]["a"])


def test_states_in_the_cache(tmp_path):
    store = DiskStore(tmp_path, 1 << 20)
    assert store.put("key", (torch.randn(3, 7), torch.randn(5).to(torch.bfloat16), torch.zeros(0)))
    (path,) = tmp_path.iterdir()
    for where in flips(path, 200):
        with pytest.raises(UserError, match=r"cache file .*key.* is damaged"):
            pytest.fail(f"{where} was not seen: {store.get('key')}")
    assert len(store.get("key") or ()) == 3


def test_the_file_of_reports(tmp_path):
    from vlseg.train.sealed import pack

    path = tmp_path / "reports.safetensors"
    path.write_bytes(pack({f"{i:032x}.0": torch.randn(1, 4) for i in range(3)}))
    for where in flips(path, 200):
        with pytest.raises(UserError, match=r"reports\.safetensors is damaged"):
            pytest.fail(f"{where} was not seen: {_read(path)}")
    assert len(_read(path)) == 3


def test_the_journal_of_a_folder_forgets_what_has_changed(tmp_path):
    """What is left of it is true, so that a file is at worst segmented again or not replaced."""
    sources = [tmp_path / f"{i}.png" for i in range(3)]
    journal = Journal(tmp_path, {"model": "x", "threshold": 0.5})
    for source in sources:
        source.write_bytes(b"picture")
        journal.begin(source)
        journal.note(source, [source], [{"pixels": 1234}], ["a note"])
    told = [journal.done(source) or Journal(tmp_path, {}).done(source) for source in sources]
    assert all(told)
    lost = 0
    for where in flips(tmp_path / NAME, 300):
        try:
            again = Journal(tmp_path, {"model": "x", "threshold": 0.5})
        except UserError as error:
            assert "holds results of another" in str(error)
            continue
        found = [again.done(source) for source in sources]
        assert all(one in (None, whole) for one, whole in zip(found, told, strict=True)), where
        lost += found.count(None)
    assert lost > 100
