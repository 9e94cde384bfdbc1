"""Which form an operator takes, decided by shape alone.

Every form of an operator computes the same meaning (`reference.py`); the form only decides how much work and memory
it takes. The rules are plain functions, so that a test, a benchmark and an exporter can ask them.
"""

from typing import Literal

FusionForm = Literal["closed", "adapter", "flash"]
PoolingForm = Literal["absorbed", "plain"]

ADAPTER_LIMIT = 128
"""Most hidden units (heads times text tokens, each rounded up to a power of two) for which the adapter form pays."""

RANK_LIMIT = 512
"""Most hidden units that the fused bottleneck holds in registers."""

HEAD_LIMIT = 256
"""Largest head that the flash-style attention holds in registers."""


def power_of_two(number: int, at_least: int = 1) -> int:
    """Return the smallest power of two that is not below `number` nor `at_least`."""
    return 1 << (max(number, at_least) - 1).bit_length()


def adapter_layout(heads: int, tokens: int) -> tuple[int, int]:
    """Return (head slots, token slots) of the adapter made from the text; their product is its rank, at least 16."""
    slots = power_of_two(heads)
    return slots, power_of_two(tokens, at_least=-(-16 // slots))


def fusion_form(heads: int, tokens: int, inner: int) -> FusionForm:
    """Return the form that `gated_cross_attention` takes for `tokens` text tokens.

    closed   one token: the softmax over one key is 1, so the attention is one vector for each image.
    adapter  few tokens: queries and outputs are absorbed into the text, which becomes a bottleneck's weights.
             Taken while heads x tokens is at most the inner size, and its padded rank at most `ADAPTER_LIMIT`; with
             heads too large for flash, up to `RANK_LIMIT`.
    flash    many tokens: a loop over key tiles with a running softmax.
    """
    if tokens == 1:
        return "closed"
    slots = adapter_layout(heads, tokens)
    rank = slots[0] * slots[1]
    pays = heads * tokens <= inner and rank <= ADAPTER_LIMIT
    must = inner > heads * HEAD_LIMIT and rank <= RANK_LIMIT
    return "adapter" if pays or must else "flash"


def pooling_form(heads: int, tokens: int, inner: int) -> PoolingForm:
    """Return the form that `text_pooling` takes: absorbed while heads x tokens < inner / 2, plain from there on.

    The plain form spends 2 x inner products on each vision value (keys and values), the absorbed form 2 x heads x K
    (scores and pooling), so the two would meet at heads x tokens = inner; half of it leaves the absorbed form a margin.
    """
    return "absorbed" if 2 * heads * tokens < inner else "plain"
