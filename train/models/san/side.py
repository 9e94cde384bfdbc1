"""The side adapter network: a small vision transformer over the image and learned queries, fed with CLIP's states."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import ViTConfig
from transformers.models.vit.modeling_vit import ViTLayer

from .fusion import Fusion
from .sizes import SanSize

STD = 0.02


class SideAdapter(nn.Module):
    """Queries and patches through pre-norm layers; positions are added again before each of them.

    `sources` says which CLIP state is fused where: position 0 is before the first layer, position k behind layer k. A
    position beyond the last layer has its parameters all the same, and is never reached.
    """

    def __init__(self, size: SanSize, grid: int, patch: int, clip_width: int, sources: Mapping[int, int]) -> None:
        super().__init__()
        width = size.width
        self.grid = grid
        self.embed = nn.Conv2d(3, width, patch, patch)
        self.positions = nn.Parameter(nn.init.trunc_normal_(torch.empty(grid * grid, width), std=STD))
        self.queries = nn.Parameter(torch.randn(size.queries, width) * STD)
        self.query_positions = nn.Parameter(torch.randn(size.queries, width) * STD)
        self.layers = nn.ModuleList(ViTLayer(_config(size)) for _ in range(size.depth))
        self.layers.apply(_draw)
        self.sources = dict(sources)
        self.fusions = nn.ModuleList(Fusion(clip_width, width) for _ in sources)

    def forward(self, pixel_values: Tensor, states: Mapping[int, Tensor]) -> tuple[Tensor, Tensor]:
        """Return queries (B, Q, width) and patches (B, grid * grid, width).

        `pixel_values` is float (B, 3, S, S); `states` has the CLIP state (B, 1 + n, D) of every source.
        """
        patches = self.embed(pixel_values).flatten(2).transpose(1, 2)
        positions = torch.cat([self.query_positions, self.positions])
        tokens = torch.cat([self.queries.expand(patches.shape[0], -1, -1), patches], dim=1)
        tokens = self._fuse(0, tokens + positions, states)
        for k, layer in enumerate(self.layers, start=1):
            tokens = self._fuse(k, layer(tokens), states)
            if k < len(self.layers):
                tokens = tokens + positions
        return tokens[:, : len(self.queries)], tokens[:, len(self.queries) :]

    def _fuse(self, position: int, tokens: Tensor, states: Mapping[int, Tensor]) -> Tensor:
        if position not in self.sources:
            return tokens
        fusion = self.fusions[list(self.sources).index(position)]
        added = fusion(states[self.sources[position]], self.grid)
        return tokens + nn.functional.pad(added, (0, 0, len(self.queries), 0))


def _config(size: SanSize) -> ViTConfig:
    return ViTConfig(
        hidden_size=size.width,
        num_attention_heads=size.heads,
        intermediate_size=4 * size.width,
        layer_norm_eps=1e-6,
        attn_implementation="sdpa",  # type: ignore[call-arg]
    )


def _draw(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=STD)
        nn.init.zeros_(module.bias)
