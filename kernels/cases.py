"""What the benchmark measures: each operator at the shapes of the models, with its cost."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import cost, forms, ops


class Case(NamedTuple):
    """One operator at one shape: a function of the implementation, its leaves, its two costs, and a row's columns."""

    run: Callable[[str], Tensor]
    leaves: list[Tensor]
    forward: cost.Cost
    both: cost.Cost
    columns: dict[str, Any]


class Place(NamedTuple):
    """Where and in what a case is made."""

    device: str
    dtype: torch.dtype

    def tensor(self, *shape: int) -> Tensor:
        """Return a leaf of the spread that trained weights have."""
        return (torch.randn(*shape) * shape[-1] ** -0.5).to(self.device, self.dtype).requires_grad_()


def bottleneck_case(place: Place, batch: int, tokens: int, width: int, rank: int) -> Case:
    """Return the adapter of VLSM-Adapter at one shape."""
    shapes = ((batch, tokens, width), (rank, width), (rank,), (width, rank), (width,))
    leaves = [place.tensor(*shape) for shape in shapes]
    columns = {"op": "bottleneck", "batch": batch, "tokens": tokens, "width": width, "rank": rank}
    forward, both = (cost.bottleneck(batch * tokens, width, rank, place.dtype.itemsize, back) for back in (False, True))
    return Case(lambda impl: ops.bottleneck(*leaves, impl=impl), leaves, forward, both, columns)  # pyright: ignore[reportArgumentType]


def attention_weights(place: Place, width: int, inner: int) -> tuple[ops.Attention, ops.Norm, ops.Norm]:
    """Return the weights of one cross-attention."""
    pair = (inner, width), (inner,)
    attention = ops.Attention(*(place.tensor(*s) for s in (*pair, *pair, *pair, (width, inner), (width,))))
    norms = [ops.Norm(place.tensor(width), place.tensor(width)) for _ in range(2)]
    return attention, norms[0], norms[1]


def fusion_cases(place: Place, tokens: int, text: int, width: int, inner: int) -> Iterator[Case]:
    """Yield both halves of LGA's fusion at one number of text tokens."""
    vision, words = place.tensor(1, tokens, width), place.tensor(1, text, width)
    attention, first, second = attention_weights(place, width, inner)
    gamma = place.tensor(width)
    shape = cost.Shape(1, tokens, text, width, inner, 1, place.dtype.itemsize)
    columns = {"batch": 1, "tokens": tokens, "text_tokens": text, "heads": 1, "width": width, "rank": inner}
    leaves = [vision, words, *attention]
    yield Case(
        lambda impl: ops.gated_cross_attention(vision, words, attention, first, second, gamma, impl=impl),  # pyright: ignore[reportArgumentType]
        leaves,
        cost.gated_cross_attention(shape),
        cost.gated_cross_attention(shape, backward=True),
        {"op": "gated_cross_attention", "form": forms.fusion_form(1, text, inner)} | columns,
    )
    yield Case(
        lambda impl: ops.text_pooling(words, vision, attention, second, first, impl=impl),  # pyright: ignore[reportArgumentType]
        leaves,
        cost.text_pooling(shape),
        cost.text_pooling(shape, backward=True),
        {"op": "text_pooling", "form": forms.pooling_form(1, text, inner)} | columns,
    )


def cases(place: Place, tiny: bool) -> Iterator[Case]:
    """Yield every shape that the models use, or tiny shapes that take each form of each operator once."""
    if tiny:
        yield bottleneck_case(place, 1, 19, 24, 6)
        for text in (1, 3, 9):
            yield from fusion_cases(place, 19, text, 24, 8)
        return
    for tokens, width, rank in ((485, 768, 64), (4096, 768, 64), (4096, 768, 192), (77, 512, 64)):
        for batch in (1, 8, 32):
            yield bottleneck_case(place, batch, tokens, width, rank)
    for text in (1, 4, 16, 77):
        yield from fusion_cases(place, 4096, text, 768, 96)
