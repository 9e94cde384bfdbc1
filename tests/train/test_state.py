import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from vlseg.deploy.errors import UserError
from vlseg.train.state import SafeCheckpointIO, decode, encode, load_weights

LEAVES = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=5)
KEYS = st.text(max_size=3) | st.integers(0, 9)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=12,
)


@settings(max_examples=40, deadline=None)
@given(TREES)
def test_what_goes_in_comes_out(value):
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(encode(value, tensors), allow_nan=False)
    back = decode(json.loads(text), tensors)
    assert back == value and repr(back) == repr(value)


def test_a_file_holds_tensors_of_every_kind(tmp_path):
    shared = torch.arange(6.0)
    state = {
        "state": {0: {"step": torch.tensor(3.0), "exp_avg": shared.view(2, 3).T}, 1: {"view": shared[2:]}},
        "betas": (0.9, 0.999),
        "best": -math.inf,
        "nothing": torch.zeros(0, 4, dtype=torch.bfloat16),
        "flags": [torch.tensor([True]), torch.tensor(7)],
    }
    path = tmp_path / "deep" / "state.safetensors"
    SafeCheckpointIO().save_checkpoint(state, path)
    back = SafeCheckpointIO().load_checkpoint(path)
    assert back["betas"] == (0.9, 0.999) and back["best"] == -math.inf
    assert torch.equal(back["state"][0]["exp_avg"], shared.view(2, 3).T)
    assert torch.equal(back["state"][1]["view"], shared[2:])
    assert back["nothing"].shape == (0, 4) and back["nothing"].dtype == torch.bfloat16
    assert back["flags"][1].shape == () and back["flags"][0].dtype == torch.bool
    with safe_open(path, "pt") as file:
        json.loads(file.metadata()["tree"])
    assert [p.name for p in path.parent.iterdir()] == ["state.safetensors"]


def test_nan_survives():
    assert math.isnan(decode(encode(math.nan, {}), {}))


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", lambda: None])
def test_what_needs_pickle_is_refused(value):
    with pytest.raises(TypeError, match="cannot hold"):
        encode({"x": [value]}, {})


def test_a_damaged_file_is_one_sentence(tmp_path):
    path = tmp_path / "state.safetensors"
    SafeCheckpointIO().save_checkpoint({"a": torch.ones(3)}, path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match="delete it to start again"):
        SafeCheckpointIO().load_checkpoint(path)
    SafeCheckpointIO().remove_checkpoint(path)
    SafeCheckpointIO().remove_checkpoint(path)
    with pytest.raises(UserError, match="not a whole checkpoint"):
        SafeCheckpointIO().load_checkpoint(path)


def test_weights_are_copied_in_place():
    layer = torch.nn.Linear(2, 2)
    before = layer.weight
    load_weights(layer, {"weight": torch.ones(2, 2)})
    assert layer.weight is before and before.sum() == 4
    with pytest.raises(KeyError):
        load_weights(layer, {"other": torch.ones(1)})
