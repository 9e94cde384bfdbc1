"""What CLIP makes of a mask: its last layers, looking at the image through the attention biases of the side adapter."""

from typing import Any

import torch
from torch import Tensor, nn

HIDDEN = -100.0


class Recognition(nn.Module):
    """CLIP's last layers with one copy of the class token for each proposal.

    A copy sees itself and the patches, these with its own bias on each head; class token and patches see each other and
    no copy, so that they are what CLIP makes of them. The same biases serve every layer.
    """

    def __init__(self, layers: nn.ModuleList, norm: nn.Module, project: nn.Module, queries: int, patches: int) -> None:
        """`layers`, `norm` and `project` are CLIP's own, taken over; `patches` is their number."""
        super().__init__()
        self.layers: Any = layers
        self.norm, self.project = norm, project
        self.queries = queries
        self.register_buffer("visible", _visible(queries, patches), persistent=False)
        self.visible: Tensor

    def forward(self, state: Tensor, biases: Tensor) -> Tensor:
        """Return unit vectors (B, Q, W) from a CLIP state (B, 1 + n, D) and biases (B, heads, Q, n)."""
        count = self.queries
        mask = self.visible + nn.functional.pad(biases, (count + 1, 0, 0, state.shape[1]))
        tokens = torch.cat([state[:, :1].expand(-1, count, -1), state], dim=1)
        for layer in self.layers:
            tokens = layer(tokens, mask)
        return nn.functional.normalize(self.project(self.norm(tokens[:, :count])), dim=-1)


def _visible(queries: int, patches: int) -> Tensor:
    """Return what is added to the scores of (rows, columns): copies first, then the class token, then patches."""
    mask = torch.zeros(queries + 1 + patches, queries + 1 + patches)
    mask[:, :queries] = HIDDEN
    mask[:queries, queries] = HIDDEN
    mask[:queries, :queries].fill_diagonal_(0)
    return mask
