"""What the side adapter predicts: a mask for each query, and where CLIP shall look to tell what is under it."""

import torch
from torch import Tensor, nn


class MaskHead(nn.Module):
    """Queries meet pixels in a common space, once for masks and once for each attention head of CLIP."""

    def __init__(self, width: int, channels: int, clip_heads: int) -> None:
        super().__init__()
        self.heads = clip_heads
        self.query = _mlp(width, channels, channels)
        self.pixel = _mlp(width, channels, channels)
        self.bias = _mlp(width, channels, channels * clip_heads)
        self.rescale = nn.Linear(1, 1)

    def forward(self, queries: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Return mask logits (B, Q, N) and attention biases (B, heads, Q, N), from (B, Q, width) and (B, N, width)."""
        queries = self.query(queries)
        masks = queries @ self.pixel(patches).transpose(1, 2)
        keys = self.bias(patches).unflatten(2, (self.heads, -1))
        biases = torch.einsum("bqc,bnhc->bhqn", queries, keys)
        return masks, self.rescale(biases[..., None])[..., 0]


def _mlp(width: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, out)
    )
