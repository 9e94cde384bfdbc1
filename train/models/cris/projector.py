"""The projector of CRIS: the sentence makes the last convolution (arXiv 2111.15174, section 3.4)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from .neck import conv_layer
from .sizes import CrisSize


class Projector(nn.Module):
    """A map four times as fine, through a 3x3 convolution whose kernel and bias are a linear function of the sentence.

    Parameters are named as in the released checkpoints.
    """

    def __init__(self, size: CrisSize) -> None:
        super().__init__()
        wide, narrow = size.text_width, size.text_width // 2
        self.vis = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear"),
            conv_layer(wide, wide, 3),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            conv_layer(wide, narrow, 3),
            nn.Conv2d(narrow, narrow, 1),
        )
        self.txt = nn.Linear(size.embed, narrow * 9 + 1)

    def kernel(self, sentence: Tensor) -> Tensor:
        """Return the kernel of each sentence, its bias last: (B, 9 * C + 1) from (B, E)."""
        return self.txt(sentence)

    def forward(self, picture: Tensor, kernel: Tensor) -> Tensor:
        """Return logits (B, 1, 4 H, 4 W) from a map (B, C, H, W) and the output of `kernel`."""
        x = self.vis(picture)
        channels, height, width = x.shape[1:]
        # the nine taps as one product, then shifted and added: a grouped convolution fixes the batch when exported
        taps = kernel[:, :-1].unflatten(1, (channels, 9)).transpose(1, 2)
        seen = pad((taps @ x.flatten(2)).unflatten(2, (height, width)), (1, 1, 1, 1))
        shifted = (seen[:, 3 * i + j, i : i + height, j : j + width] for i in range(3) for j in range(3))
        return torch.stack(list(shifted), dim=1).sum(dim=1, keepdim=True) + kernel[:, -1, None, None, None]


class CrisUpsampler(nn.Module):
    """TuneVLSeg's learnable upsampler for CRIS: (1 - r) * pretrained + r * new, r learned from 0.5."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(width, 64, 1, bias=False)
        self.conv = nn.Conv2d(64, 1, 5, padding="same", padding_mode="replicate")
        self.ratio = nn.Parameter(torch.tensor(0.5))

    def forward(self, logits: Tensor, picture: Tensor) -> Tensor:
        """Return logits (B, 1, S, S) from the pretrained ones and the decoder's map (B, C, S / 16, S / 16)."""
        large = interpolate(self.narrow(picture), logits.shape[2:], mode="bilinear", align_corners=False)
        return (1 - self.ratio) * logits + self.ratio * self.conv(large)
