"""Places for learned prompts among the ids of a sentence."""

import torch
from torch import Tensor


def with_room(input_ids: Tensor, attention_mask: Tensor, prompts: int, context: int) -> tuple[Tensor, Tensor]:
    """Insert `prompts` places behind the begin token, and pad ids and mask (B, L) to the whole context, as published.

    A length that is the smaller of two would not survive an export with a free length. What goes beyond the context is
    cut before the end token; the padding repeats the last id.
    """
    place = torch.arange(context, device=input_ids.device)
    last, source = input_ids.shape[1] - 1, place - prompts
    word = torch.where(place == context - 1, last, source.clamp(0, last))
    ids = torch.where((place > 0) & (source <= 0), 0, input_ids[:, word])
    mask = torch.where(source <= last, attention_mask[:, source.clamp(0, last)], 0)
    return ids, mask
