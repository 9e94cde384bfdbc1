import pytest
import torch

from vlseg.train.loss import BalancedLoss, SegmentationLoss


def by_hand(logits: torch.Tensor, masks: torch.Tensor, dice: float, ce: float, released: bool) -> torch.Tensor:
    """The formulas in float64: per-image Dice with smoothing 1e-5, mean binary cross-entropy."""
    p, t = logits.double().sigmoid(), masks.double()
    inter, areas = (p * t).sum((1, 2, 3)), p.sum((1, 2, 3)) + t.sum((1, 2, 3))
    soft_dice = (1 - (2 * inter + 1e-5) / (areas + 1e-5)).mean()
    q = p.sigmoid() if released else p
    return dice * soft_dice - ce * (t * q.log() + (1 - t) * (1 - q).log()).mean()


@pytest.mark.parametrize("fidelity", ["paper", "released"])
def test_loss_is_the_formula(fidelity):
    torch.manual_seed(0)
    logits, masks = 3 * torch.randn(3, 1, 7, 9), (torch.rand(3, 1, 7, 9) > 0.6).float()
    masks[2] = 0
    loss = SegmentationLoss(1.5, 1.0, fidelity)(logits, masks)
    torch.testing.assert_close(loss.double(), by_hand(logits, masks, 1.5, 1.0, fidelity == "released"))


def test_released_cross_entropy_never_nears_zero():
    masks = torch.ones(1, 1, 4, 4)
    sure = torch.full_like(masks, 30.0)
    assert SegmentationLoss(0.0, 1.0, "released")(sure, masks).item() == pytest.approx(0.3133, abs=1e-4)
    assert SegmentationLoss(0.0, 1.0, "paper")(sure, masks).item() < 1e-6
    assert SegmentationLoss(0.0, 1.0, "released")(sure, 1 - masks).item() == pytest.approx(1.3133, abs=1e-4)


def test_half_precision_logits_are_judged_in_float32():
    logits = torch.randn(2, 1, 5, 5)
    masks = (logits > 0).float()
    assert SegmentationLoss()(logits.half(), masks).dtype == torch.float32


def test_the_balanced_loss_by_hand():
    logits = torch.tensor([[[[2.0, -1.0], [0.5, -3.0]]], [[[1.0, 1.0], [-2.0, 0.0]]]]).double()
    masks = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]], [[[1.0, 1.0], [0.0, 0.0]]]]).double()
    p = logits.float().sigmoid()
    pairs = zip(p, masks.float(), strict=True)
    dice = [1 - (2 * (a * b).sum() + 1e-5) / ((a * a).sum() + (b * b).sum() + 1e-5) for a, b in pairs]
    inside, outside = -p[masks == 1].log().mean(), -(1 - p[masks == 0]).log().mean()
    expected = 2 * torch.stack(dice).mean() + 3 * (inside + outside)
    assert BalancedLoss(2.0, 3.0)(logits, masks.float()).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_class_that_is_not_there_counts_nothing():
    logits = torch.full((1, 1, 4, 4), -20.0)
    assert BalancedLoss(0.0, 1.0)(logits, torch.zeros(1, 1, 4, 4)).item() < 1e-6
    assert BalancedLoss(0.0, 1.0)(-logits, torch.zeros(1, 1, 4, 4)).item() == pytest.approx(20.0)
