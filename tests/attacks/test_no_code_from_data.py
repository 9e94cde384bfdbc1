"""Nothing that is read can run: what could is found in the source, and a file that tries is refused unopened."""

import ast
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from vlseg.deploy.errors import UserError

ROOT = Path(__file__).parents[2]
ROOMS = ("kernels", "deploy", "train", "export", "demo", "cli")
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "runpy", "code"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
CALLS = {"os.system", "os.popen", "torch.jit.load", "torch.hub.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}
NEEDS = {  # a call, and the argument without which it could run what it reads
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
    "extractall": ("filter", "data"),
    "extract": ("filter", "data"),
}
FORBIDDEN = {"shell": True, "trust_remote_code": True, "allow_pickle": True, "weights_only": False}


def sources():
    return [ROOT / "quickstart.py", *(path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))]


def faults(text: str) -> list[str]:
    """Return what in a source could run data, each with its line."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            found += [f"{node.lineno}: imports {name}" for name in names if name.split(".")[0] in MODULES]
        if not isinstance(node, ast.Call):
            continue
        name, given = ast.unparse(node.func), {word.arg: word.value for word in node.keywords}
        if name in BUILTINS | CALLS:
            found.append(f"{node.lineno}: {name}")
        wanted, value = NEEDS.get(name, NEEDS.get(name.rpartition(".")[2] if "extract" in name else "", (None, None)))
        if wanted and not (isinstance(given.get(wanted), ast.Constant) and given[wanted].value == value):
            found.append(f"{node.lineno}: {name} without {wanted}={value}")
        for word, bad in FORBIDDEN.items():
            if word in given and getattr(given[word], "value", bad) == bad:
                found.append(f"{node.lineno}: {name} with {word}={bad}")
    return found


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_could_run_what_it_reads(path):
    assert faults(path.read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle", "from joblib import load", "eval(x)", "exec(x)", "os.system(x)", "torch.load(f)",
        "torch.load(f, weights_only=False)", "torch.load(f, weights_only=flag)", "np.load(f)", "yaml.load(f)",
        "np.load(f, allow_pickle=True)", "torch.jit.load(f)", "tar.extractall(d)", "subprocess.run(x, shell=True)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)", "AutoModel.from_pretrained(x, trust_remote_code=y)",
    ],
)  # fmt: skip
def test_the_search_finds(text):
    assert faults(text)


class Bomb:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def bomb(tmp_path):
    """The bytes of such a pickle, and the file that would appear."""
    fired = tmp_path / "fired"
    data = pickle.dumps(Bomb(fired))
    yield data
    assert not fired.exists()


def test_the_bomb_is_one(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "fired")))
    assert (tmp_path / "fired").exists()


def test_a_pickle_in_the_place_of_weights(trained_run, bomb, tmp_path, door):
    import shutil

    from vlseg.train.models.runs import TRAINED, seal_run

    run = shutil.copytree(trained_run, tmp_path / "run")
    (run / TRAINED).write_bytes(bomb)
    said = door("export", run, tmp_path / "bundle")
    assert said.code == 2 and f"{TRAINED} is not as it was written" in said.err
    seal_run(run, {TRAINED: run / TRAINED})
    said = door("export", run, tmp_path / "bundle")
    assert said.code == 2 and f"{TRAINED} cannot be read" in said.err and not (tmp_path / "bundle").exists()


def test_a_pickle_in_the_place_of_a_checkpoint(bomb, tmp_path, door, monkeypatch):
    """Its hash is asked for first; with another one it is not opened, with its own nothing in it is run."""
    import hashlib

    import torch

    (tmp_path / "x.pt").write_bytes(bomb)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", lambda *_, **__: pytest.fail("opened"))
        said = door("convert", tmp_path / "x.pt", "--sha256", "0" * 64, "--to", tmp_path / "out")
        assert said.code == 2 and "it was not opened" in said.err
    said = door("convert", tmp_path / "x.pt", "--sha256", hashlib.sha256(bomb).hexdigest(), "--to", tmp_path / "out")
    assert said.code == 2 and "holds more than tensors" in said.err and not (tmp_path / "out").exists()


def test_a_pickle_in_the_place_of_whatever_a_bundle_has(fixed_bundle, toy_bundle, bomb):
    from vlseg.deploy.manifest import Manifest
    from vlseg.deploy.segmenter import Segmenter

    for bundle in (fixed_bundle, toy_bundle):
        for name in Manifest.load(bundle).files:
            whole = (bundle / name).read_bytes()
            known = Manifest.load(bundle)
            (bundle / name).write_bytes(bomb)
            known.save(bundle)
            with pytest.raises(UserError, match=re.escape(name)):
                Segmenter.open(bundle)
            (bundle / name).write_bytes(whole)
            known.save(bundle)
        assert Segmenter.open(bundle)


def test_objects_in_arrays_stay_in_their_file(tmp_path):
    from vlseg.deploy.adapters import read_adapter
    from vlseg.deploy.manifest import Manifest

    np.savez(tmp_path / "a.npz", **{"image/a": np.array([Bomb(tmp_path / "fired")], dtype=object)})
    known = Manifest("t", "t/t", "t", 16, (0.5,) * 3, (0.2,) * 3, adapters={"a": {"file": "a.npz", "threshold": 0.5}})
    with pytest.raises(UserError, match=r"a\.npz cannot be read"):
        read_adapter(tmp_path, known, "a")
    assert not (tmp_path / "fired").exists()
