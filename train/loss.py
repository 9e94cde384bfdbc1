"""The loss of VLSM-Adapter, as its paper means it and as its code was released."""

from monai.losses.dice import DiceCELoss
from torch import Tensor, nn


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
