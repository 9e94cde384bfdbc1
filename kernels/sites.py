"""The shapes at which the models use the operators: what is compiled ahead of time and held to the resource gate."""

from collections.abc import Iterator

from .forms import adapter_layout, pooling_form
from .variants import (
    Variant,
    adapter_variant,
    as_torch,
    attend_variants,
    bottleneck_backward,
    bottleneck_variant,
    closed_variant,
    distinct,
    pooling_variants,
)

CLIPSEG_TOKENS = 485
"""22 x 22 patches and the class token: the base at 352 pixels, the embedded size at 176."""

ADAPTERS = ((768, 64), (512, 64), (768, 512), (512, 512), (512, 256))
"""Width and rank of VLSM-Adapter on the base: dense vision and text, shallow vision and text, conditional."""

SMALL_ADAPTERS = ((192, 16), (128, 16), (192, 128), (128, 128), (128, 64))
"""The same on the embedded size."""

FOLDED = ((768, 64), (512, 64), (192, 16), (128, 16))
"""Dense adapters behind an attention, whose down-projection may have been folded into its output linear."""

LGA_TOKENS = (4096, 1024, 256)
"""Patches of SAM at 1024, 512 and 256 pixels."""

LGA_TEXT = (1, 4, 16, 77)
"""Numbers of text tokens: one by default."""

LGA_MLP = (768, 192)

MANY = 16384
"""Rows of a batch from which on every tile is at its largest."""

TRAINED = ((192, 16), (768, 64), (192, 128), (512, 256), (768, 512))
"""One width for each rank at which a tile changes; rows of a tile only make it larger."""

MOST_QUERIES = 47
"""The most that the absorbed pooling takes; from 17 on its tile is another."""


def plugin_variants(dtypes: tuple[str, ...] = ("fp16", "fp32")) -> list[Variant]:
    """Return every plugin variant, all forward, in the dtypes that an engine is built in."""
    return distinct([variant for dtype in dtypes for variant in (*_adapters(dtype), *_fusions(dtype))])


def _adapters(dtype: str) -> Iterator[Variant]:
    for width, rank in (*ADAPTERS, *SMALL_ADAPTERS):
        yield bottleneck_variant(dtype, width, rank, tokens=CLIPSEG_TOKENS)
    for width, rank in FOLDED:
        yield bottleneck_variant(dtype, width, rank, folded=True, tokens=CLIPSEG_TOKENS)


def _fusions(dtype: str) -> Iterator[Variant]:
    for tokens in LGA_TOKENS:
        yield bottleneck_variant(dtype, *LGA_MLP, normed=True, tokens=tokens)
        yield closed_variant(dtype, tokens=tokens)
        yield from pooling_variants(dtype, tokens=tokens)[:3]
    for count in LGA_TEXT[1:]:
        slots = adapter_layout(1, count)
        yield adapter_variant(dtype, count)
        yield bottleneck_variant(dtype, LGA_MLP[0], slots[0] * slots[1], normed=True, groups=1)
        absorbed = pooling_form(1, count, 96) == "absorbed"
        yield from pooling_variants(dtype, queries=count)[:3] if absorbed else attend_variants(dtype, queries=count)[:1]


def torch_variants(dtypes: tuple[str, ...] = ("fp16", "bf16", "fp32")) -> list[Variant]:
    """Return the variants of training and eager use: every kernel, at the largest tiles that models take."""
    return distinct([variant for dtype in dtypes for variant in (*_trained_adapters(dtype), *_trained_fusions(dtype))])


def _trained_adapters(dtype: str) -> Iterator[Variant]:
    for width, rank in TRAINED:
        yield as_torch(bottleneck_variant(dtype, width, rank, tokens=MANY))
        yield from bottleneck_backward(dtype, width, rank, tokens=MANY)
    yield as_torch(bottleneck_variant(dtype, *LGA_MLP, normed=True, tokens=MANY))
    yield from bottleneck_backward(dtype, *LGA_MLP, normed=True, tokens=MANY)
    yield as_torch(bottleneck_variant(dtype, *FOLDED[0], folded=True, tokens=MANY))
    yield from bottleneck_backward(dtype, *FOLDED[0], folded=True, tokens=MANY)
    for tokens in (CLIPSEG_TOKENS, LGA_TOKENS[0]):
        yield as_torch(bottleneck_variant(dtype, *ADAPTERS[0], tokens=tokens))
        yield from bottleneck_backward(dtype, *ADAPTERS[0], tokens=tokens)


def _trained_fusions(dtype: str) -> Iterator[Variant]:
    yield as_torch(closed_variant(dtype))
    yield as_torch(adapter_variant(dtype, LGA_TEXT[2]))
    query, forward, finish, backward = pooling_variants(dtype)
    yield from (as_torch(query), as_torch(forward), as_torch(finish, "pooled", "logsum"), backward)
    _query, forward, _finish, backward = pooling_variants(dtype, queries=MOST_QUERIES)
    yield from (as_torch(forward), backward)
    attend, *backward = attend_variants(dtype)
    yield from (as_torch(attend, "logsum"), *backward)
