"""The door: the hash first, tensors alone, nothing run; TorchScript archives read as data."""

import hashlib
import io
import os
import pickle
import warnings
import zipfile

import pytest
import torch
from torch import nn

from vlseg.deploy.errors import UserError
from vlseg.train.convert.checkpoint import read_checkpoint


class Bomb:
    """A pickle that runs a command when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.narrow = nn.Linear(3, 5).half()
        self.parts = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
        self.scale = nn.Parameter(torch.tensor(2.5))
        self.register_buffer("count", torch.tensor(224))
        self.register_buffer("view", torch.arange(12.0).reshape(3, 4).T[1:3])

    def forward(self, x):
        return self.parts(x) * self.scale


def script(path):
    """Save a traced module as OpenAI publishes CLIP; return it and the file's SHA-256."""
    module = Small().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(module, torch.randn(1, 1, 2, 2)), str(path))
    return module, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_wrapper_and_prefix_are_taken_off(saved, wrapper, prefix):
    tensors = {f"{prefix}a.weight": torch.randn(2, 3), f"{prefix}b": torch.tensor(3)}
    value = tensors if wrapper is None else {"epoch": 3, wrapper: tensors, "optimizer": {"lr": 0.1}, "best_iou": 0.7}
    read = read_checkpoint(*saved(value))
    assert read.keys() == {"a.weight", "b"}
    assert torch.equal(read["a.weight"], tensors[f"{prefix}a.weight"])


def test_a_module_of_that_name_is_no_prefix(saved):
    assert read_checkpoint(*saved({"module.a": torch.ones(1), "b": torch.ones(1)})).keys() == {"module.a", "b"}


def test_old_files_and_capital_hashes_are_read(tmp_path):
    path = tmp_path / "old.pth"
    torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_checkpoint(path, digest.upper())["a"].sum() == 2


def test_a_wrong_hash_is_refused_before_the_file_is_opened(saved, monkeypatch):
    path, digest = saved({"a": torch.ones(1)})
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(UserError, match="was not opened"):
        read_checkpoint(path, digest[::-1])


@pytest.mark.parametrize("digest", ["", "abc", "g" * 64])
def test_what_is_no_hash(saved, digest):
    with pytest.raises(UserError, match="64 hex digits"):
        read_checkpoint(saved({"a": torch.ones(1)})[0], digest)


@pytest.mark.parametrize("how", ["torch", "plain", "beside"])
def test_a_malicious_pickle_is_refused(tmp_path, saved, how):
    fired = tmp_path / "fired"
    if how == "plain":
        path = tmp_path / "plain.pth"
        path.write_bytes(pickle.dumps(Bomb(fired)))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    else:
        path, digest = saved({"a": torch.ones(1), "b": Bomb(fired)} if how == "beside" else Bomb(fired))
    says = "holds more than tensors" if how == "plain" else r"holds more than tensors.*asks for (posix|nt)\.system"
    with pytest.raises(UserError, match=says) as refusal:
        read_checkpoint(path, digest)
    assert "\n" not in str(refusal.value) and "weights_only" not in str(refusal.value)
    assert not fired.exists()


@pytest.mark.parametrize(
    ("value", "says"),
    [({"a": 3}, "no tensors by name"), ([torch.ones(1)], "no tensors by name"), (torch.ones(1), "no tensors by name")],
)
def test_what_holds_no_state_dict(saved, value, says):
    with pytest.raises(UserError, match=says):
        read_checkpoint(*saved(value))


@pytest.mark.parametrize("data", [b"", b"not a checkpoint", b"PK\x03\x04 cut", b"\x80\x02}q\x00."])
def test_a_damaged_file(tmp_path, data):
    path = tmp_path / "bad.pth"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"bad\.pth"):
        read_checkpoint(path, hashlib.sha256(data).hexdigest())


def test_no_such_file(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        read_checkpoint(tmp_path / "none.pth", "0" * 64)


def test_a_torchscript_archive_gives_its_state_dict(tmp_path, monkeypatch):
    module, digest = script(tmp_path / "clip.pt")
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("run"))
    read = read_checkpoint(tmp_path / "clip.pt", digest)
    state = module.state_dict()
    kept = {name for name in state if name != "parts.1.num_batches_tracked"}
    assert kept <= read.keys() <= state.keys()
    for name, tensor in read.items():
        assert tensor.dtype == state[name].dtype and torch.equal(tensor, state[name])


def test_a_malicious_torchscript_archive_runs_nothing(tmp_path):
    _, _ = script(tmp_path / "good.pt")
    fired, path = tmp_path / "fired", tmp_path / "bad.pt"
    with zipfile.ZipFile(tmp_path / "good.pt") as good, zipfile.ZipFile(path, "w") as bad:
        for name in good.namelist():
            data = pickle.dumps(Bomb(fired), protocol=2) if name.endswith("/data.pkl") else good.read(name)
            bad.writestr(name, data)
    with pytest.raises(UserError, match="without running it"):
        read_checkpoint(path, hashlib.sha256(path.read_bytes()).hexdigest())
    assert not fired.exists()


def test_a_tensor_that_reaches_beyond_its_numbers_is_refused(tmp_path):
    script(tmp_path / "good.pt")
    path = tmp_path / "short.pt"
    with zipfile.ZipFile(tmp_path / "good.pt") as good, zipfile.ZipFile(path, "w") as bad:
        for name in good.namelist():
            data = good.read(name)
            bad.writestr(name, data[: len(data) // 4 * 2] if name.endswith("/data/2") else data)
    with pytest.raises(UserError, match=r"short\.pt is no TorchScript archive"):
        read_checkpoint(path, hashlib.sha256(path.read_bytes()).hexdigest())


def test_an_unknown_opcode_is_refused():
    from vlseg.train.convert.torchscript import Reader

    data = io.BytesIO()
    pickle.Pickler(data, protocol=4).dump({1, 2})
    with pytest.raises(ValueError, match="opcode"):
        Reader().read(data.getvalue())
