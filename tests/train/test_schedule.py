import math

import pytest
import torch

from vlseg.train.fidelity import curve_of
from vlseg.train.recipe import Recipe
from vlseg.train.schedule import factor


def test_warm_up_then_a_cosine_to_nothing():
    assert [factor(step, 100, 4) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert factor(4, 100, 4) == 1 and factor(52, 100, 4) == pytest.approx(0.5) and factor(100, 100, 4) == 0
    # torch's own schedule, without the warm-up
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for step in range(10):
        assert factor(step, 10, 0) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()


def test_the_released_cosine_ends_at_a_fifth():
    assert (
        factor(100, 100, 0, "seven-sixteenths")
        == pytest.approx(math.cos(7 * math.pi / 16))
        == pytest.approx(0.195, abs=1e-3)
    )
    assert factor(50, 100, 0, "seven-sixteenths") > factor(50, 100, 0)


def test_which_curve_a_recipe_has():
    assert curve_of(Recipe(method="sam/lga", fidelity="released")) == "seven-sixteenths"
    assert curve_of(Recipe(method="sam/lga")) == curve_of(Recipe(method="cris/full", fidelity="released")) == "half"


def test_the_rate_of_each_step_in_training(shapes, tmp_path, monkeypatch):
    from vlseg.train.fit import fit
    from vlseg.train.loop import Fit

    seen = []
    step = Fit.training_step

    def spy(self, batch, index):
        seen.append(self.optimizers().param_groups[0]["lr"])
        return step(self, batch, index)

    monkeypatch.setattr(Fit, "training_step", spy)
    settings = {"schedule": "cosine", "warmup_steps": 2, "lr": 1e-2, "max_epochs": 2, "min_epochs": 1, "batch_size": 4}
    fit(Recipe(method="clipseg/dense-v", size="nano", **settings), shapes, tmp_path / "run", say=lambda line: None)
    assert seen == pytest.approx([1e-2 * factor(i, 6, 2) for i in range(6)])
