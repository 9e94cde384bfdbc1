"""What a run saves comes back, and nothing else is taken for it."""

import json

import pytest
import torch
from safetensors.torch import load_file

from vlseg.deploy.errors import UserError
from vlseg.train.models.grafts import trained_parameters
from vlseg.train.models.methods import METHODS, build_model
from vlseg.train.models.runs import TRAINED, load_run, round_trained, save_run, seal_run

INFO = {"size": "nano", "weights": None, "options": {}}


def saved(tmp_path, name, **changes):
    torch.manual_seed(0)
    model = build_model(name, "nano", seed=5)
    for parameter in trained_parameters(model).values():
        torch.nn.init.normal_(parameter)
    save_run(tmp_path, model, INFO | {"method": name} | changes)
    return model


@pytest.mark.parametrize("name", [name for name in METHODS if name != "clipseg/frozen"])
def test_save_and_load(tmp_path, name):
    model = saved(tmp_path, name)
    again, info = load_run(tmp_path)
    assert info["method"] == name and info["image_size"] == model.image_size
    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key


def test_only_the_trained_part_is_saved(tmp_path):
    model = saved(tmp_path, "clipseg/dense-vl")
    size = (tmp_path / TRAINED).stat().st_size
    assert size < 4 * sum(p.numel() for p in trained_parameters(model).values()) + 5000


def test_a_file_of_halves_is_half_the_size_and_gives_back_what_was_measured(tmp_path):
    model = build_model("clipseg/dense-vl", "nano", seed=5)
    round_trained(model)
    for name, dtype in (("float32", torch.float32), ("float16", torch.float16)):
        (tmp_path / name).mkdir()
        save_run(tmp_path / name, model, INFO | {"method": "clipseg/dense-vl", "stored": name})
        assert {tensor.dtype for tensor in load_file(tmp_path / name / TRAINED).values()} == {dtype}
        again, _ = load_run(tmp_path / name)
        for key, value in model.state_dict().items():
            assert torch.equal(value, again.state_dict()[key]) and again.state_dict()[key].dtype == value.dtype
    whole, half = ((tmp_path / name / TRAINED).stat().st_size for name in ("float32", "float16"))
    assert whole - half == pytest.approx(2 * sum(p.numel() for p in trained_parameters(model).values()), abs=64)


def test_a_weight_beyond_the_range_of_halves_is_refused():
    model = build_model("clipseg/dense-vl", "nano")
    with torch.no_grad():
        next(iter(trained_parameters(model).values())).fill_(1e6)
    with pytest.raises(UserError, match="train with stored=float32"):
        round_trained(model)


def test_another_backbone_is_refused(tmp_path):
    saved(tmp_path, "clipseg/dense-vl")
    info = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(info | {"weights_hash": "0" * 64}))
    seal_run(tmp_path, {})
    with pytest.raises(UserError, match="was trained on vlseg/nano with hash 000000"):
        load_run(tmp_path)


def test_a_truncated_file_is_refused(tmp_path):
    saved(tmp_path, "clipseg/dense-vl")
    whole = (tmp_path / TRAINED).read_bytes()
    (tmp_path / TRAINED).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"trained\.safetensors is not as it was written"):
        load_run(tmp_path)
    seal_run(tmp_path, {})
    with pytest.raises(UserError, match="cannot be read"):
        load_run(tmp_path)


def test_a_run_of_another_rank_is_refused(tmp_path):
    saved(tmp_path, "clipseg/dense-vl", options={"rank": 7})
    with pytest.raises(UserError, match="does not fit this method"):
        load_run(tmp_path)


def test_no_run(tmp_path):
    with pytest.raises(UserError, match="is not a run"):
        load_run(tmp_path)
