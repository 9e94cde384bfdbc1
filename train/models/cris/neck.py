"""The neck of CRIS: three maps and a sentence into one map at 1/16 (Wang et al., arXiv 2111.15174, section 3.2).

Parameters are named as in the released checkpoints. What reads the image alone (`image`), the sentence alone (`gate`)
and both (`forward`) stand apart, so that each runs once for an image, a sentence and a pair.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, batch_norm, interpolate

from .sizes import CrisSize


def conv_layer(inner: int, outer: int, kernel: int = 1) -> nn.Sequential:
    """Return convolution, batch norm and ReLU that keep the side of a map."""
    return nn.Sequential(
        nn.Conv2d(inner, outer, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outer), nn.ReLU()
    )


class SentenceNorm(nn.BatchNorm1d):
    """Batch norm over sentences; one sentence alone has no statistics of its own, so it takes the running ones."""

    def forward(self, input: Tensor) -> Tensor:
        """Return (B, C)."""
        if self.training and input.shape[0] == 1:  # in this order: an export must not ask for the batch
            return batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


class CoordConv(nn.Module):
    """A 3x3 convolution that also reads each pixel's place (Liu et al., arXiv 1807.03247)."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.conv1 = conv_layer(inner + 2, outer, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outer, H, W); x and y run from -1 to 1 over the map."""
        batch, _, height, width = x.shape
        across = torch.linspace(-1, 1, width, device=x.device, dtype=x.dtype).expand(batch, 1, height, width)
        down = torch.linspace(-1, 1, height, device=x.device, dtype=x.dtype)[:, None].expand(batch, 1, height, width)
        return self.conv1(torch.cat([x, across, down], dim=1))


class Neck(nn.Module):
    """The cross-modal feature pyramid."""

    def __init__(self, size: CrisSize) -> None:
        super().__init__()
        fine, middle, coarse = size.neck
        self.txt_proj = nn.Sequential(nn.Linear(size.embed, coarse, bias=False), SentenceNorm(coarse), nn.ReLU())
        self.f1_v_proj = conv_layer(size.embed, coarse)
        self.norm_layer = nn.Sequential(nn.BatchNorm2d(coarse), nn.ReLU())
        self.f2_v_proj = conv_layer(size.width * 16, middle, 3)
        self.f2_cat = conv_layer(coarse + middle, middle)
        self.f3_v_proj = conv_layer(size.width * 8, fine, 3)
        self.f3_cat = conv_layer(fine + middle, middle)
        self.f4_proj5 = conv_layer(coarse, middle, 3)
        self.f4_proj4 = conv_layer(middle, middle, 3)
        self.f4_proj3 = conv_layer(middle, middle, 3)
        self.aggr = conv_layer(3 * middle, middle)
        self.coordconv = nn.Sequential(CoordConv(middle, middle), conv_layer(middle, middle, 3))

    def image(self, c3: Tensor, c4: Tensor, c5: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what is read of the image alone: maps at 1/16, 1/16 and 1/32."""
        return avg_pool2d(self.f3_v_proj(c3), 2), self.f2_v_proj(c4), self.f1_v_proj(c5)

    def gate(self, sentence: Tensor) -> Tensor:
        """Return a factor for each channel of the coarse map, (B, C), from sentences (B, E)."""
        return self.txt_proj(sentence)

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor, gate: Tensor) -> Tensor:
        """Return (B, middle channels, S / 16, S / 16) from the maps of `image` and the factors of `gate`."""
        f5 = self.norm_layer(coarse * gate[:, :, None, None])
        f4 = self.f2_cat(torch.cat([middle, _double(f5)], dim=1))
        f3 = self.f3_cat(torch.cat([fine, f4], dim=1))
        maps = [self.f4_proj3(f3), self.f4_proj4(f4), _double(self.f4_proj5(f5))]
        return self.coordconv(self.aggr(torch.cat(maps, dim=1)))


def _double(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
