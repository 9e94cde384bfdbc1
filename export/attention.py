"""Exact rewritings of a transformer layer for an engine: what cancels leaves, what multiplies by a constant moves.

docs/folding.md has the derivations. All are exact in real arithmetic (float64 tests to 1e-12).
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import QuickGELUActivation

from .rows import OnRows, linear

QUICK_GELU = 1.702


class FoldedAttention(nn.Module):
    """Multi-head attention with one bias less for keys and for values, and no scale.

    A key's bias adds the same number to all scores of a query, which the softmax cancels; a value's bias comes out
    unchanged, since the weights of a softmax sum to one, and so belongs to the output projection. The scale is in the
    query's weights. Linears run on rows (see `rows.py`).
    """

    def __init__(self, attention: Any) -> None:
        """Fold one of the library's attentions, whose output projection may be wider than its width (fold 1)."""
        super().__init__()
        query, out, value = attention.q_proj, attention.out_proj, attention.v_proj
        self.heads: int = attention.num_heads
        self.query = linear(query.weight * attention.scale, query.bias * attention.scale)
        self.key = linear(attention.k_proj.weight)
        self.value = linear(value.weight)
        self.out = linear(out.weight, out.bias + out.weight @ value.bias)

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: object
    ) -> tuple[Tensor, None]:
        """Return (B, N, out) and no weights; `attention_mask` is added to the scores, (B, 1, N, N)."""
        tokens = hidden_states.shape[1]
        rows = hidden_states.flatten(0, 1)
        query, key, value = (self._split(one(rows), tokens) for one in (self.query, self.key, self.value))
        scores = query @ key.transpose(-1, -2)
        if attention_mask is not None:
            scores = scores + attention_mask
        # at least float32, cast before: the exporter puts a cast that softmax is asked for behind it
        weights = torch.softmax(scores.to(torch.promote_types(scores.dtype, torch.float32)), -1)
        mixed = weights.to(value.dtype) @ value
        return self.out(mixed.transpose(1, 2).flatten(2).flatten(0, 1)).unflatten(0, (-1, tokens)), None

    def _split(self, rows: Tensor, tokens: int) -> Tensor:
        return rows.unflatten(0, (-1, tokens)).unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FoldedMlp(nn.Module):
    """fc2(a * sigmoid(1.702 a)), a = fc1(x), as SiLU: y = 1.702 a is made by fc1, and y sigmoid(y) / 1.702 by fc2."""

    def __init__(self, mlp: Any) -> None:
        super().__init__()
        self.fc1 = linear(mlp.fc1.weight * QUICK_GELU, mlp.fc1.bias * QUICK_GELU)
        self.fc2 = linear(mlp.fc2.weight / QUICK_GELU, mlp.fc2.bias)

    def forward(self, rows: Tensor) -> Tensor:
        """Return rows (..., out) from rows (..., width)."""
        return self.fc2(nn.functional.silu(self.fc1(rows)))


@torch.no_grad()
def fold_layer(layer: Any) -> None:
    """Fold one encoder or decoder layer of the library in place; grafts stay where they are."""
    owner, name = _below_grafts(layer, "self_attn")
    setattr(owner, name, FoldedAttention(getattr(owner, name)))
    if owner is not layer:
        owner.graft = OnRows(owner.graft)
    owner, name = _below_grafts(layer, "mlp")
    if isinstance(getattr(owner, name).activation_fn, QuickGELUActivation):
        setattr(owner, name, FoldedMlp(getattr(owner, name)))
    layer.mlp = OnRows(layer.mlp)


def _below_grafts(owner: Any, name: str) -> tuple[Any, str]:
    """Return where the library's own module sits: on the layer, or inside the graft that wraps it."""
    found = getattr(owner, name)
    return (found, "inner") if hasattr(found, "graft") else (owner, name)
