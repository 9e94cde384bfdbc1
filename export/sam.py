"""Exact rewritings of SAM's layers for an engine: relative positions as tables, biases and scale where they cost least.

Windows stay as they are. The norm before an attention keeps its affine, for windows are padded with zeros behind it.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..train.models.sam.sam import Sam
from .rows import linear


class FoldedSamAttention(nn.Module):
    """SAM's attention over a grid of one size, its relative positions looked up once.

    The scale is in the keys, for the positions read the queries as they are. A key's bias adds the same number to all
    scores of a query, and a value's bias comes out unchanged, padded tokens included: the first is dropped, the second
    is in the output projection's.
    """

    def __init__(self, attention: Any, side: int) -> None:
        """Fold one of the library's attentions for windows, or a whole grid, of `side` x `side` tokens."""
        super().__init__()
        self.heads: int = attention.num_attention_heads
        width = attention.proj.in_features
        query, key, value = attention.qkv.weight.unflatten(0, (3, width))
        query_bias, _, value_bias = attention.qkv.bias.unflatten(0, (3, width))
        nothing = torch.zeros_like(query_bias).repeat(2)
        self.qkv = linear(torch.cat([query, key * attention.scale, value]), torch.cat([query_bias, nothing]))
        self.proj = linear(attention.proj.weight, attention.proj.bias + attention.proj.weight @ value_bias)
        for name in ("rel_pos_h", "rel_pos_w"):
            table = attention.get_rel_pos(side, side, getattr(attention, name))
            self.register_buffer(name, table.detach().transpose(1, 2).contiguous())  # (side, head, side)
        self.rel_pos_h: Tensor
        self.rel_pos_w: Tensor

    def forward(self, hidden_states: Tensor, output_attentions: object = None) -> tuple[Tensor, None]:
        """Return (B, side, side, D) and no weights, from the same shape."""
        side = hidden_states.shape[1]
        parts = self.qkv(hidden_states.flatten(1, 2)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        grid = query.unflatten(2, (side, side))
        down = (grid @ self.rel_pos_h)[..., :, None]
        along = (grid.transpose(2, 3) @ self.rel_pos_w).transpose(2, 3)[..., None, :]
        scores = query @ key.transpose(-1, -2) + (down + along).flatten(4).flatten(2, 3)
        weights = torch.softmax(scores.to(torch.promote_types(scores.dtype, torch.float32)), -1).to(value.dtype)
        mixed = (weights @ value).transpose(1, 2).flatten(2)
        return self.proj(mixed).unflatten(1, (side, side)), None


@torch.no_grad()
def fold_sam(model: Sam) -> list[str]:
    """Fold `model` in place; return what was done, a phrase each."""
    grid, layers = model.image_size // model.vision.patch_embed.patch_size[0], model.vision.layers
    for layer in layers:
        layer.attn = FoldedSamAttention(layer.attn, layer.window_size or grid)
    decoder = model.library.mask_decoder
    decoder.config._attn_implementation = "eager"
    decoder.output_hypernetworks_mlps = decoder.output_hypernetworks_mlps[:1]
    decoder.iou_prediction_head = nn.Identity()
    return [
        f"position table at {grid} x {grid}",
        f"relative positions, scale, key and value biases of {len(layers)} layers",
        "the IoU head and three of four mask networks leave",
    ]
