import numpy as np
import pytest
import torch
from torch import nn

from vlseg.deploy import metrics
from vlseg.deploy.annotations import read_split
from vlseg.train.data import Look, Order, Pictures, make_loader
from vlseg.train.loop import Fit, open_up, overlap
from vlseg.train.models.grafts import trained_parameters
from vlseg.train.models.methods import build_model


def test_overlap_is_that_of_the_runtime():
    rng = np.random.default_rng(0)
    pred, true = rng.random((6, 1, 9, 11)) > 0.7, rng.random((6, 1, 9, 11)) > 0.5
    pred[0], true[0], pred[1], true[2] = False, False, False, False
    dice, iou = overlap(torch.from_numpy(pred), torch.from_numpy(true))
    assert dice.tolist() == [metrics.dice(p[0], t[0]) for p, t in zip(pred, true, strict=True)]
    assert iou.tolist() == pytest.approx([metrics.iou(p[0], t[0]) for p, t in zip(pred, true, strict=True)])


def test_only_what_trains_is_in_training_mode():
    frozen = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.9)).requires_grad_(False)
    opened = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.9))
    model = nn.ModuleDict({"frozen": frozen, "opened": opened}).eval()
    open_up(model)
    assert not any(module.training for module in frozen.modules())
    assert all(module.training for module in opened.modules()) and not model.training


@pytest.fixture
def module(nano, shapes) -> Fit:
    model = build_model("clipseg/dense-vl", "nano")
    order = Order(10, 4, seed=0)
    return Fit(model, lambda batch: model(*batch[:1], *batch[2:4]), nano, order, Order(4, 4))


def test_train_and_eval_leave_the_backbone_still(module):
    library = module.model.library
    module.train()
    adapters = {id(p) for p in trained_parameters(module.model).values()}
    for part in module.model.modules():
        own = [id(p) for p in part.parameters()]
        assert part.training == (bool(own) and set(own) <= adapters)
    assert not library.clip.text_model.embeddings.training
    module.eval()
    assert not any(part.training for part in module.modules())


def test_gradients_reach_what_trains_and_nothing_else(module, shapes):
    pictures = Pictures(read_split(shapes, "train"), Look(32, module.model.mean, module.model.std, "p1"))
    batch = next(iter(make_loader(pictures, Order(10, 4), module.model.tokenizer)))
    module.train()
    module.loss(module.logits_of(batch), batch.mask).backward()
    with_gradient = {name for name, p in module.model.named_parameters() if p.grad is not None}
    assert with_gradient == set(trained_parameters(module.model))


def test_optimiser_and_checkpoint_hold_what_trains(module):
    optimizer = module.configure_optimizers()
    (group,) = optimizer.param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in trained_parameters(module.model).values()}
    assert (group["lr"], group["weight_decay"]) == (1e-3, 1e-3)
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    parameters = {name for name, _ in module.named_parameters()}
    kept = checkpoint["state_dict"].keys() & parameters
    assert kept == {f"model.{name}" for name in trained_parameters(module.model)}
    assert checkpoint["plateau"]["factor"] == 0.3
