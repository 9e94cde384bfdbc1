"""Places for learned prompts among the ids of a sentence."""

import torch
from torch import Tensor


def with_room(input_ids: Tensor, attention_mask: Tensor, prompts: int, length: int) -> tuple[Tensor, Tensor]:
    """Insert `prompts` places behind the begin token, and pad ids and mask (B, L) to `length`, at least L + `prompts`.

    The padding repeats the last id, the end token, and no token before it sees any of it.
    """
    place = torch.arange(length, device=input_ids.device)
    last, source = input_ids.shape[1] - 1, place - prompts
    word = source.clamp(0, last)
    ids = torch.where((place > 0) & (source <= 0), 0, input_ids[:, word])
    return ids, torch.where(source <= last, attention_mask[:, word], 0)
