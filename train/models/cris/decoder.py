"""The decoder of CRIS: pixels look at each other and at the words (arXiv 2111.15174, section 3.3)."""

import math

import torch
from torch import Tensor, nn

from .sizes import CrisSize


def waves(count: int, width: int, like: Tensor) -> Tensor:
    """Return the sine and cosine code of positions 0 to count - 1, (count, width), sine and cosine in turn."""
    place = torch.arange(count, device=like.device, dtype=torch.float32)
    rate = torch.exp(torch.arange(0, width, 2, device=like.device, dtype=torch.float32) * (-math.log(1e4) / width))
    angle = place[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).to(like.dtype)


def grid_waves(height: int, width: int, channels: int, like: Tensor) -> Tensor:
    """Return the code of a grid, (H * W, C): the first half of the channels is the column's, the second the row's."""
    across = waves(width, channels // 2, like).expand(height, -1, -1)
    down = waves(height, channels // 2, like)[:, None].expand(-1, width, -1)
    return torch.cat([across, down], dim=-1).flatten(0, 1)


class DecoderLayer(nn.Module):
    """Self-attention, attention to the words and a feed-forward part; a LayerNorm before each and behind attention."""

    def __init__(self, size: CrisSize) -> None:
        super().__init__()
        width, heads, inner, dropout = size.text_width, size.decoder_heads, size.feed_forward, size.dropout
        self.self_attn = nn.MultiheadAttention(width, heads, dropout=dropout)
        self.multihead_attn = nn.MultiheadAttention(width, heads, dropout=dropout)
        self.self_attn_norm, self.cross_attn_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.dropout1, self.dropout2, self.dropout3 = (nn.Dropout(dropout) for _ in range(3))
        self.ffn = nn.Sequential(
            nn.Linear(width, inner), nn.ReLU(), nn.Dropout(dropout), nn.LayerNorm(inner), nn.Linear(inner, width)
        )

    def forward(self, pixels: Tensor, pixel_code: Tensor, words: Tensor, keys: Tensor, pad: Tensor) -> Tensor:
        """Return (N, B, C): pixels (N, B, C) with their code (N, 1, C), words and keys (L, B, C), pad bool (B, L)."""
        own = self.norm1(pixels)
        query = own + pixel_code
        own = self.self_attn(query, query, own, need_weights=False)[0]
        pixels = pixels + self.dropout1(self.self_attn_norm(own))
        query = self.norm2(pixels) + pixel_code
        read = self.multihead_attn(query, keys, words, key_padding_mask=pad, need_weights=False)[0]
        pixels = pixels + self.dropout2(self.cross_attn_norm(read))
        return pixels + self.dropout3(self.ffn(self.norm3(pixels)))


class Decoder(nn.Module):
    """The layers, and the LayerNorm behind them."""

    def __init__(self, size: CrisSize) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(size) for _ in range(size.decoder_layers))
        self.norm = nn.LayerNorm(size.text_width)

    def forward(self, picture: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """Return (B, C, H, W) from a map (B, C, H, W), words (B, L, C) and their mask (B, L), 0 where there is none."""
        channels, height, width = picture.shape[1:]
        pixel_code = grid_waves(height, width, channels, picture)[:, None]
        words = words.transpose(0, 1)
        keys = words + waves(words.shape[0], channels, words)[:, None]
        pixels = picture.flatten(2).permute(2, 0, 1)
        for layer in self.layers:
            pixels = layer(pixels, pixel_code, words, keys, mask == 0)
        return self.norm(pixels).permute(1, 2, 0).unflatten(2, (height, width))
