"""The losses: VLSM-Adapter's, as its paper means it and as its code was released, and that of LGA's code."""

from monai.losses.dice import DiceCELoss
from torch import Tensor, nn
from torch.nn import functional as F


class SegmentationLoss(nn.Module):
    """Weighted sum of Dice loss and binary cross-entropy on logits (B, 1, H, W); Dice is per image, then averaged.

    With `fidelity="released"` the cross-entropy gets probabilities where it expects logits, as in the published code: a
    second sigmoid, so that it ranges from 0.31 to 1.31 and never nears 0.
    """

    def __init__(self, dice_weight: float = 1.5, ce_weight: float = 1.0, fidelity: str = "paper") -> None:
        super().__init__()
        self.released = fidelity == "released"
        self.loss = DiceCELoss(sigmoid=not self.released, lambda_dice=dice_weight, lambda_ce=ce_weight)

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Return the mean loss over the batch; `masks` is float (B, 1, H, W) of 0 and 1."""
        logits = logits.float()
        return self.loss(logits.sigmoid() if self.released else logits, masks)


class BalancedLoss(nn.Module):
    """LGA's released loss on logits (B, 1, H, W): Dice with squared denominators and a balanced cross-entropy.

    The cross-entropy is the mean over all object pixels of the batch plus the mean over all others, so that a class
    counts the same however small it is; a class that is not there counts nothing.
    """

    def __init__(self, dice_weight: float = 1.0, ce_weight: float = 1.0, smooth: float = 1e-5) -> None:
        super().__init__()
        self.dice_weight, self.ce_weight, self.smooth = dice_weight, ce_weight, smooth

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Return the loss of the batch; `masks` is float (B, 1, H, W) of 0 and 1."""
        logits = logits.float()
        found, true = logits.sigmoid().flatten(1), masks.flatten(1)
        both, squares = (found * true).sum(1), (found * found).sum(1) + (true * true).sum(1)
        dice = 1 - ((2 * both + self.smooth) / (squares + self.smooth)).mean()
        each = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
        classes = [(each * one).sum() / one.sum().clamp(min=1) for one in (masks, 1 - masks)]
        return self.dice_weight * dice + self.ce_weight * sum(classes)
