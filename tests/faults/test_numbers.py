"""NaN and infinity: training stops, says at which batch of which files, and the last whole epoch goes on."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from vlseg.deploy.errors import UserError
from vlseg.train.fit import fit
from vlseg.train.loop import Diverged, Fit
from vlseg.train.models.runs import TRAINED
from vlseg.train.state import SafeCheckpointIO


def silent(line: str) -> None:
    """Say nothing."""


def poison(monkeypatch, hook: str, epoch: int, bad: float):
    """Make the logits of the second batch of an epoch no numbers, in training or in validation."""
    whole = getattr(Fit, hook)

    def spoilt(self, batch, step):
        if (self.current_epoch, step) == (epoch, 1):
            good = self.logits_of
            self.logits_of = lambda batch: good(batch) * bad
            try:
                return whole(self, batch, step)
            finally:
                self.logits_of = good
        return whole(self, batch, step)

    monkeypatch.setattr(Fit, hook, spoilt)


@pytest.mark.parametrize(("hook", "bad"), [("training_step", float("inf")), ("validation_step", float("nan"))])
def test_a_loss_that_is_no_number(shapes, tmp_path, nano, monkeypatch, hook, bad):
    recipe = nano.replace(batch_size=2)
    with monkeypatch.context() as patch:
        poison(patch, hook, 1, bad)
        split = "train" if hook == "training_step" else "val"
        with pytest.raises(Diverged, match=rf"batch 1: {split}\d+, {split}\d+\).*last whole epoch is kept"):
            fit(recipe, shapes, tmp_path / "run", say=silent)
    state = SafeCheckpointIO().load_checkpoint(tmp_path / "run" / "state" / "last.safetensors")
    assert state["epoch"] == 0
    assert all(torch.isfinite(t).all() for t in state["state_dict"].values() if t.is_floating_point())
    fit(recipe, shapes, tmp_path / "run", say=silent)
    fit(recipe, shapes, tmp_path / "straight", say=silent)
    assert (tmp_path / "run" / TRAINED).read_bytes() == (tmp_path / "straight" / TRAINED).read_bytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_picture_that_holds_no_number(shapes, tmp_path, nano, bad):
    data = shutil.copytree(shapes, tmp_path / "data")
    values = np.ones((48, 56), np.float32)
    values[3, 3] = bad
    Image.fromarray(values).save(tmp_path / "x.tif")
    (data / "images" / "train3.png").write_bytes((tmp_path / "x.tif").read_bytes())
    with pytest.raises(UserError, match=r"train3\.png holds NaN or infinite values"):
        fit(nano, data, tmp_path / "run", say=silent)
    assert not (tmp_path / "run").exists()


def test_gradients_that_are_no_numbers_are_never_kept(shapes, tmp_path, nano, monkeypatch):
    """The loss is finite, its gradient is not: the step that spoils the weights shows in the next loss."""

    class Spoilt(torch.autograd.Function):
        @staticmethod
        def forward(ctx, logits):
            return logits.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad * float("nan")

    whole = Fit.training_step

    def spoilt(self, batch, step):
        if (self.current_epoch, step) != (1, 2):
            return whole(self, batch, step)
        good = self.logits_of
        self.logits_of = lambda batch: Spoilt.apply(good(batch))
        try:
            return whole(self, batch, step)
        finally:
            self.logits_of = good

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "training_step", spoilt)
        with pytest.raises(Diverged, match="val0"):  # the step is the epoch's last
            fit(nano, shapes, tmp_path / "run", say=silent)
    state = SafeCheckpointIO().load_checkpoint(tmp_path / "run" / "state" / "last.safetensors")
    assert state["epoch"] == 0
    fit(nano, shapes, tmp_path / "run", say=silent)
