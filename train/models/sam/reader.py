"""A frozen BERT as the reader of reports: from token ids to one vector for each word (LGA, equation 1).

As in the released features: the begin and end tokens are dropped, and a word that was split is the mean of its pieces.
"""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ....deploy.words import Tokenizer

BYTE_SPACE = "\u0120"
"""How byte-level BPE writes the space before a word."""


class Reader(nn.Module):
    """BERT and the vocabulary that says where words begin.

    Shapes below use B batch, L text length, K the tokenizer's context, W BERT's width.
    """

    def __init__(self, bert: Any, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.bert = bert
        self.width: int = bert.config.hidden_size
        self.context = tokenizer.context
        # what a GPU or an engine needs to know of the vocabulary is a table, not the vocabulary
        self.register_buffer("opens", opens(tokenizer, bert.config.vocab_size), persistent=False)
        self.register_buffer("before", torch.ones(self.context, self.context).triu(), persistent=False)
        self.opens: Tensor
        self.before: Tensor

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the words (B, K, W), zero behind the last one, and which of them there are, float (B, K).

        `input_ids` and `attention_mask` are int64 (B, L).
        """
        hidden = self.bert(input_ids, attention_mask=attention_mask).last_hidden_state
        place = torch.arange(self.context, device=hidden.device)
        # a length that is the smaller of two would not survive an export with a free length
        source = place.clamp(max=input_ids.shape[1] - 1)
        real = attention_mask[:, source].to(hidden.dtype) * (place < input_ids.shape[1])
        last = real.sum(1, keepdim=True) - 1
        piece = real * (place > 0) * (place < last)
        starts = piece * torch.maximum(self.opens[input_ids[:, source]].to(hidden.dtype), (place == 1).to(hidden.dtype))
        index = starts @ self.before.to(hidden.dtype) - 1
        member = piece[:, None] * (index[:, None] == place[:, None]).to(hidden.dtype)
        pieces = member.sum(2, keepdim=True)
        words = (member @ hidden[:, source]) / pieces.clamp(min=1)
        return words, pieces[:, :, 0].clamp(max=1)


def mean_word(words: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean word (B, 1, W), zero where there is none, and whether there is one, float (B, 1)."""
    count = there.sum(1, keepdim=True)
    return ((there[:, None] @ words) / count.clamp(min=1)[:, None], count.clamp(max=1))


def opens(tokenizer: Tokenizer, vocabulary: int) -> Tensor:
    """Return for each id whether it begins a word, bool (vocabulary,): by the signs of WordPiece or byte-level BPE."""
    model: Mapping[str, Any] = json.loads(tokenizer.json)["model"]
    table = torch.zeros(vocabulary, dtype=torch.bool, device="cpu")
    for piece, index in model["vocab"].items():
        table[index] = _opens(piece, model["type"])
    return table


def _opens(piece: str, kind: str) -> bool:
    if kind == "WordPiece":
        return not piece.startswith("##")
    return piece.startswith(BYTE_SPACE) or not piece[:1].isalnum()
