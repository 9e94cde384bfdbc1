"""The backbone of CRIS: CLIP RN50, its image encoder with three taps and its text transformer with every word.

Parameters are named as in OpenAI's release (Radford et al., arXiv 2103.00020), so that its state dict loads as it is.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu, scaled_dot_product_attention

from .sizes import CrisSize


class Bottleneck(nn.Module):
    """Three convolutions and a residual path; where it halves, it averages before a convolution of stride 1."""

    def __init__(self, inner: int, planes: int, stride: int) -> None:
        super().__init__()
        outer = planes * 4
        self.conv1, self.bn1 = nn.Conv2d(inner, planes, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = nn.Conv2d(planes, outer, 1, bias=False), nn.BatchNorm2d(outer)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or inner != outer:
            parts = {"-1": self.pool, "0": nn.Conv2d(inner, outer, 1, bias=False), "1": nn.BatchNorm2d(outer)}
            self.downsample = nn.Sequential(OrderedDict(parts))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 4 * planes, H / stride, W / stride)."""
        out = relu(self.bn1(self.conv1(x)))
        out = self.pool(relu(self.bn2(self.conv2(out))))
        return relu(self.bn3(self.conv3(out)) + self.downsample(x))


class DensePool(nn.Module):
    """CLIP's attention pool with every pixel as a query, and CRIS's residual path beside it (its section 3.1).

    The class row of the position table is held but not used; the rest is resized to the map.
    """

    def __init__(self, table: int, width: int, heads: int, out: int) -> None:
        super().__init__()
        self.heads, self.table = heads, table
        self.positional_embedding = nn.Parameter(torch.randn(table**2 + 1, width) / width**0.5)
        self.k_proj, self.q_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.c_proj = nn.Linear(width, out)
        self.connect = nn.Sequential(nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out))
        self.register_buffer("fixed", None, persistent=False)
        self.fixed: Tensor | None

    @torch.no_grad()
    def fold(self, side: int) -> str:
        """Resize the position table once, for maps of `side`, as is otherwise done at every call."""
        self.fixed = self.positions(side, side).clone()
        return f"position table at {side} x {side}"

    def positions(self, height: int, width: int) -> Tensor:
        """Return the position table without its class row, resized: (1, H * W, C)."""
        if self.fixed is not None:
            return self.fixed
        table = self.positional_embedding[1:].T.unflatten(1, (self.table, self.table))[None]
        return interpolate(table, (height, width), mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)

    def attend(self, x: Tensor) -> Tensor:
        """Return the pooled vector of every pixel, (B, out, H, W), from (B, C, H, W)."""
        height, width = x.shape[2:]
        tokens = x.flatten(2).transpose(1, 2) + self.positions(height, width)
        q, k, v = (
            part(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.c_proj(mixed).transpose(1, 2).unflatten(2, (height, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out, H, W)."""
        return relu(self.attend(x) + self.connect(x))


class ImageEncoder(nn.Module):
    """OpenAI's modified ResNet: a stem of three convolutions, average pools, attention at the end."""

    def __init__(self, size: CrisSize) -> None:
        super().__init__()
        width = size.width
        self.conv1, self.bn1 = (
            nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width // 2),
        )
        self.conv2, self.bn2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False), nn.BatchNorm2d(width // 2)
        self.conv3, self.bn3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.pool = nn.AvgPool2d(2)
        self.layer1 = _stage(width, width, size.layers[0], 1)
        self.layer2 = _stage(width * 4, width * 2, size.layers[1], 2)
        self.layer3 = _stage(width * 8, width * 4, size.layers[2], 2)
        self.layer4 = _stage(width * 16, width * 8, size.layers[3], 2)
        self.attnpool = DensePool(size.table, width * 32, size.heads, size.embed)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return C3, C4 and C5 at 1/8, 1/16 and 1/32 of images (B, 3, S, S)."""
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = relu(norm(conv(x)))
        fine = self.layer2(self.layer1(self.pool(x)))
        middle = self.layer3(fine)
        return fine, middle, self.attnpool(self.layer4(middle))


def _stage(inner: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
    rest = (Bottleneck(planes * 4, planes, 1) for _ in range(blocks - 1))
    return nn.Sequential(Bottleneck(inner, planes, stride), *rest)


class QuickGelu(nn.Module):
    """The sigmoid form of GELU that CLIP was trained with."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x * sigmoid(1.702 x)."""
        return x * torch.sigmoid(1.702 * x)


class TextBlock(nn.Module):
    """A pre-norm transformer block in which a word sees itself and those before it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        parts = {"c_fc": nn.Linear(width, width * 4), "gelu": QuickGelu(), "c_proj": nn.Linear(width * 4, width)}
        self.mlp = nn.Sequential(OrderedDict(parts))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, L, W)."""
        length = x.shape[1]
        later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        y = self.ln_1(x).transpose(0, 1)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=later)[0].transpose(0, 1)
        return x + self.mlp(self.ln_2(x))


class TextTransformer(nn.Module):
    """The blocks of the text encoder."""

    def __init__(self, size: CrisSize) -> None:
        super().__init__()
        blocks = (TextBlock(size.text_width, size.text_heads) for _ in range(size.text_layers))
        self.resblocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, L, W)."""
        return self.resblocks(x)


class ClipBackbone(nn.Module):
    """Both encoders of CLIP RN50, without the contrastive temperature, which never reaches a mask."""

    def __init__(self, size: CrisSize, context: int) -> None:
        super().__init__()
        width = size.text_width
        self.visual = ImageEncoder(size)
        self.transformer = TextTransformer(size)
        self.token_embedding = nn.Embedding(size.vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.randn(context, width) * 0.01)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, size.embed) * width**-0.5)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def words(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return every word's feature (B, L, W) and the sentence in the shared space (B, E), from ids (B, L)."""
        x = self.token_embedding(input_ids) + self.positional_embedding[: input_ids.shape[1]]
        x = self.ln_final(self.transformer(x))
        # the end token has the largest id; int32 because ONNX has no arg-max of int64 on every runtime
        end = input_ids.to(torch.int32).argmax(dim=-1)
        rows = torch.arange(input_ids.shape[0], device=input_ids.device)
        return x, x[rows, end] @ self.text_projection
