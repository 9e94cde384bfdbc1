"""Constant reports: what the first fusion module makes of the text alone becomes a constant beside the text.

Behind that module the text has met the image, so nothing further is constant. The text part is run at export; its rows
hold the tokens, and behind them what was made of them.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..kernels import forms, reference
from ..train.models.sam.fusion import Fusion, norm_of
from ..train.models.sam.sam import Sam


class AskedFusion(nn.Module):
    """A module whose text half reads constant text: the absorbed queries (B, Q, D) lie behind the tokens (B, K, D)."""

    def __init__(self, fusion: Fusion, tokens: int) -> None:
        super().__init__()
        self.fusion, self.tokens = fusion, tokens

    def known(self, text: Tensor) -> Tensor:
        """Return (B, K + Q, D) of tokens (B, K, D)."""
        one = self.fusion.extractor
        norms = norm_of(one.text_norm), norm_of(one.vision_norm)
        queries = reference.centred_queries(text, one.attention.tensors, *norms, one.heads)
        return torch.cat([text, queries], 1)

    def forward(self, vision: Tensor, text: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return vision (B, G, G, D) and text (B, K, D), both new; `text` is what `known` made."""
        one, rows = self.fusion.extractor, vision.flatten(1, 2)
        norm = norm_of(one.vision_norm)
        pooled = reference.pooled_by(text[:, self.tokens :], rows, norm.eps)
        text = reference.pooling_result(pooled, text[:, : self.tokens], one.attention.tensors, norm, one.heads)
        text = text if one.mlp is None else one.mlp(text)
        return self.fusion.injector(rows, text, mask).reshape(vision.shape), text


class ToldFusion(nn.Module):
    """A module whose one token never meets the image: what the image hears is one constant row behind the token."""

    def __init__(self, fusion: Fusion) -> None:
        super().__init__()
        self.fusion = fusion

    def known(self, text: Tensor) -> Tensor:
        """Return (B, 2, D) of a token (B, 1, D): the token after the text half, and what the image hears of it."""
        text = text if self.fusion.extractor is None else self.fusion.extractor.mlp(text)
        one = self.fusion.injector
        heard = reference.closed_cross_attention(
            torch.zeros_like(text), text, one.attention.tensors, norm_of(one.text_norm), one.gamma
        )
        return torch.cat([text, heard], 1)

    def forward(self, vision: Tensor, text: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return vision (B, G, G, D) and text (B, 1, D), both new; `text` is what `known` made."""
        one = self.fusion.injector
        vision = vision + text[:, 1:, None]
        if one.mlp is not None:
            vision = one.mlp(vision, one.gamma if one.gate_mlp else None)
        return vision, text[:, :1]


class KnownReport(nn.Module):
    """A report whose tokens are followed by what the first module makes of them."""

    def __init__(self, report: Any, first: AskedFusion | ToldFusion) -> None:
        super().__init__()
        self.report, self.first = report, first
        self.tokens, self.limit, self.states = report.tokens, report.limit, report.states

    def forward(self, states: tuple[Tensor, Tensor]) -> Tensor | tuple[Tensor, Tensor]:
        """Return rows (B, N, D), and if the tokens may be several which of these are real, float (B, K)."""
        made = self.report(states)
        return self.first.known(made) if isinstance(made, Tensor) else (self.first.known(made[0]), made[1])


def fold_known_text(model: Sam) -> list[str]:
    """Fold `model`, whose reports are constants, in place; return what was done, a phrase each."""
    if not model.image_depends_on_text:
        return []
    place = str(model.first)
    fusion: Any = model.fusions[place]
    one_token, extractor = model.report.tokens == "mean", fusion.extractor
    count = 1 if one_token else model.report.limit
    if extractor is not None and extractor.attention is not None:
        inner = extractor.attention.query.out_features
        if forms.pooling_form(extractor.heads, count, inner) != "absorbed":
            return []
        first, phrase = AskedFusion(fusion, count), "the constant text's queries of the first module"
    elif one_token:
        first, phrase = ToldFusion(fusion), "what the image hears of the constant text in the first module"
    else:
        return []
    model.fusions[place] = first
    model.report = KnownReport(model.report, first)
    return [phrase]
