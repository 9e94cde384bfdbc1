"""What of a report reaches the image encoder: its mean word, all its words, or a learned query where there is none."""

from typing import Literal

import torch
from torch import Tensor, nn

from .reader import Reader, mean_word

Tokens = Literal["mean", "all"]
States = tuple[Tensor, Tensor]


class Query(nn.Module):
    """A learned token (D,) for the reports that are empty, and while training for a share `drop` of the others."""

    def __init__(self, width: int, drop: float) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(width) * 0.02)
        self.drop = drop

    def forward(self, text: Tensor, there: Tensor) -> States:
        """Return tokens (B, K, D) and which are real, float (B, K): the given ones, or the learned one alone."""
        said = there.amax(1, keepdim=True)
        if self.training and self.drop:
            said = said * (torch.rand_like(said) >= self.drop)
        first = torch.zeros_like(there)
        first[:, 0] = 1
        there = said * there + (1 - said) * first
        said = said[:, :, None]
        return said * text + (1 - said) * first[:, :, None] * self.token, there


class Report(nn.Module):
    """From the reader's words to text tokens of the image encoder's width.

    Shapes below use B batch, K text tokens, W the reader's width, D the image encoder's, L text length.

    Attributes:
        query: stands for a report that is not given; None where a report is needed.
        project: from W to D where they differ; not published, for it is never so at the published size.
    """

    def __init__(
        self, reader: Reader | None, width: int, *, tokens: Tokens, limit: int, learned: bool, drop: float
    ) -> None:
        super().__init__()
        self.reader = reader
        self.tokens, self.limit = tokens, limit
        self.query = Query(width, drop) if learned else None
        other = reader is not None and reader.width != width
        self.project = nn.Linear(reader.width, width) if reader is not None and other else nn.Identity()

    def states(self, input_ids: Tensor, attention_mask: Tensor) -> States:
        """Return tokens (B, K, W) and which of them there are, float (B, K), of sentences, int64 (B, L) each."""
        assert self.reader is not None
        words, there = self.reader(input_ids, attention_mask)
        if self.tokens == "mean":
            return mean_word(words, there)
        return words[:, : self.limit], there[:, : self.limit]

    def forward(self, states: States) -> Tensor | States:
        """Return text tokens (B, K, D), and if they may be several which are real, float (B, K)."""
        words, there = states
        text = self.project(words)
        if self.query is not None:
            text, there = self.query(text, there)
        return text if self.tokens == "mean" else (text, there)

    def unsaid(self, batch: int) -> Tensor:
        """Return the learned query alone for each of a batch, (B, 1, D)."""
        assert self.query is not None
        return self.query.token.expand(batch, 1, -1)
