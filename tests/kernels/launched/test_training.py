"""Training a model with either implementation of its operators gives the same loss curve."""

import pytest
import torch

pytest.importorskip("transformers")

from torch.nn.functional import binary_cross_entropy_with_logits

from vlseg.kernels import bottleneck, ops, tiles
from vlseg.train.models.adapters import implementation
from vlseg.train.models.grafts import trained_parameters
from vlseg.train.models.methods import build_model

STEPS = 20


def batch(model, device):
    """Return four pictures of a bright square, its sentence and its mask."""
    generator = torch.Generator().manual_seed(0)
    side = model.image_size
    pixels = 0.1 * torch.randn(4, 3, side, side, generator=generator)
    masks = torch.zeros(4, 1, side, side)
    for index in range(4):
        row, column = (4 * index) % (side - 12), (7 * index) % (side - 12)
        masks[index, :, row : row + 12, column : column + 12] = 1
    ids, mask = model.tokenizer(["a bright square"] * 4)
    tensors = (pixels + masks, torch.from_numpy(ids), torch.from_numpy(mask), masks)
    return [tensor.to(device) for tensor in tensors]


def curve(impl, device):
    """Return the losses of twenty steps of dense adapters in both towers."""
    model = build_model("clipseg/dense-vl", "nano", weights="random", last_layer=0).to(device)
    *inputs, masks = batch(model, device)
    optimizer = torch.optim.AdamW(trained_parameters(model).values(), lr=1e-2)
    losses = []
    for _ in range(STEPS):
        assert implementation(model, device) == impl
        loss = binary_cross_entropy_with_logits(model(*inputs), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.slow
def test_twenty_steps_follow_the_same_curve(device, monkeypatch):
    launched = []
    for name in ("forward", "backward"):
        launch = getattr(bottleneck, name)
        monkeypatch.setattr(bottleneck, name, lambda *a, name=name, launch=launch: launched.append(name) or launch(*a))
    with tiles.forced(tiles.Tile(rows=128, block=32, warps=4, stages=2)) if device == "cpu" else tiles.watched():
        with ops.preferring("fused"):
            fused = curve("fused", device)
        assert launched.count("forward") == launched.count("backward") == 4 * STEPS
        launched.clear()
        with ops.preferring("reference"):
            eager = curve("reference", device)
    assert launched == []
    assert fused == pytest.approx(eager, rel=1e-3)
    assert eager[-1] < 0.9 * eager[0]
