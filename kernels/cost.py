"""Bytes and floating-point operations of each operator, counted by hand: what a measured time is compared with.

Bytes count each tensor that must cross the memory once, weights included; scratch and caches are left out, so a share
of the copy ceiling is a lower bound of what the memory did.
"""

from typing import NamedTuple

from .forms import fusion_form, pooling_form


class Cost(NamedTuple):
    """Bytes moved and floating-point operations."""

    bytes: int
    flops: int


def bottleneck(rows: int, width: int, rank: int, itemsize: int, backward: bool = False) -> Cost:
    """Return the cost of the fused bottleneck; forward and backward together where `backward` says so.

    Forward reads x and writes y. Backward reads x and the gradient twice (rows, columns), writes dx, and computes the
    hidden and the update again: 2 products forward, 3 over rows and 3 over columns backward.
    """
    product = 2 * rows * width * rank
    weights = 2 * width * rank
    if not backward:
        return Cost((2 * rows * width + weights) * itemsize, 2 * product)
    return Cost((7 * rows * width + 5 * weights) * itemsize, 9 * product)


def eager_bottleneck(rows: int, width: int, rank: int, itemsize: int) -> Cost:
    """Return the cost of the same forward as five separate PyTorch operators, each reading and writing its tensors."""
    return Cost((7 * rows * width + 4 * rows * rank + 2 * width * rank) * itemsize, 4 * rows * width * rank)


def gated_cross_attention(
    batch: int, tokens: int, text: int, width: int, inner: int, heads: int, itemsize: int
) -> Cost:
    """Return the cost of the fused forward, in the form that the shape takes."""
    rows = batch * tokens
    form = fusion_form(heads, text, inner)
    moved = (2 * rows * width + 4 * width * inner) * itemsize
    if form == "closed":
        return Cost(moved, rows * width + 4 * batch * width * inner)
    if form == "adapter":
        return Cost(moved, 4 * rows * width * heads * text + 8 * batch * text * width * inner)
    return Cost(moved + 4 * rows * inner * itemsize, 4 * rows * width * inner + 4 * rows * text * inner)


def text_pooling(batch: int, tokens: int, text: int, width: int, inner: int, heads: int, itemsize: int) -> Cost:
    """Return the cost of the fused forward, in the form that the shape takes."""
    rows = batch * tokens
    moved = (rows * width + 4 * width * inner) * itemsize
    if pooling_form(heads, text, inner) == "absorbed":
        return Cost(moved, 4 * rows * width * heads * text)
    return Cost(moved + 4 * rows * inner * itemsize, 4 * rows * width * inner + 4 * rows * text * inner)
