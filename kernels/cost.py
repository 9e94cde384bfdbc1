"""Bytes and floating-point operations of each operator, counted by hand: what a measured time is compared with.

Bytes count each tensor as long as the image that a kernel must read or write, and the weights; scratch, text and caches
are left out, so a share of the copy ceiling is a lower bound of what the memory did. Operations are those of the matrix
products, a multiplication and an addition each, recomputation included.
"""

from typing import NamedTuple

from .forms import fusion_form, pooling_form


class Cost(NamedTuple):
    """Bytes moved and floating-point operations."""

    bytes: int
    flops: int


class Shape(NamedTuple):
    """One call of a cross-attention: images, vision tokens, text tokens, width, inner size, heads, bytes a number."""

    batch: int
    tokens: int
    text: int
    width: int
    inner: int
    heads: int
    itemsize: int

    @property
    def image(self) -> int:
        """Numbers in the image's tokens."""
        return self.batch * self.tokens * self.width

    @property
    def projection(self) -> int:
        """Operations of one linear between width and inner size over all tokens."""
        return 2 * self.image * self.inner

    @property
    def scores(self) -> int:
        """Operations of one product between queries and keys, all heads."""
        return 2 * self.batch * self.tokens * self.text * self.inner

    def moved(self, images: int, inners: int = 0, weights: int = 1) -> int:
        """Return the bytes of so many passes over the image, over its projections, and over the four weights."""
        rows = images * self.image + inners * self.batch * self.tokens * self.inner
        return (rows + weights * 4 * self.width * self.inner) * self.itemsize


def bottleneck(rows: int, width: int, rank: int, itemsize: int, backward: bool = False) -> Cost:
    """Return the cost of the fused bottleneck; forward and backward together where `backward` says so.

    Forward reads x and writes y. Backward reads x and the gradient twice (rows, columns), writes dx, and computes the
    hidden and the update again: 2 products forward, 4 over rows and 3 over columns backward.
    """
    product = 2 * rows * width * rank
    weights = 2 * width * rank
    if not backward:
        return Cost((2 * rows * width + weights) * itemsize, 2 * product)
    return Cost((7 * rows * width + 5 * weights) * itemsize, 9 * product)


def eager_bottleneck(rows: int, width: int, rank: int, itemsize: int) -> Cost:
    """Return the cost of the same forward as five separate PyTorch operators, each reading and writing its tensors."""
    return Cost((7 * rows * width + 4 * rows * rank + 2 * width * rank) * itemsize, 4 * rows * width * rank)


def gated_cross_attention(shape: Shape, backward: bool = False) -> Cost:
    """Return the cost of the fused operator, in the form that the shape takes.

    closed   backward reads the gradient once; the image's own gradient is the incoming one.
    adapter  a bottleneck whose rank is heads x text tokens, with the text's part in front of it.
    flash    query and output projections; backward makes them again, and four gradients of them.
    """
    s = shape
    form = fusion_form(s.heads, s.text, s.inner)
    if form == "closed":
        made = 4 * s.batch * s.width * s.inner
        return Cost(s.moved(3, weights=3), s.image + 3 * made) if backward else Cost(s.moved(2), made)
    if form == "adapter":
        rank = s.heads * s.text
        made = 8 * s.batch * s.text * s.width * s.inner
        adapter = bottleneck(s.batch * s.tokens, s.width, rank, s.itemsize, backward)
        return Cost(s.moved(7 if backward else 2), adapter.flops + (4 if backward else 1) * made)
    if not backward:
        return Cost(s.moved(2, inners=4), 2 * s.projection + 2 * s.scores)
    return Cost(s.moved(7, inners=12, weights=5), 8 * s.projection + 11 * s.scores)


def text_pooling(shape: Shape, backward: bool = False) -> Cost:
    """Return the cost of the fused operator, in the form that the shape takes.

    absorbed  one read of the image; backward pools it again, then reads it and writes its gradient.
    plain     key and value projections; backward makes them again, and four gradients of them.
    """
    s = shape
    if pooling_form(s.heads, s.text, s.inner) == "absorbed":
        product = 2 * s.image * s.heads * s.text
        return Cost(s.moved(4, weights=5), 9 * product) if backward else Cost(s.moved(1), 2 * product)
    if not backward:
        return Cost(s.moved(1, inners=4), 2 * s.projection + 2 * s.scores)
    return Cost(s.moved(4, inners=12, weights=5), 8 * s.projection + 11 * s.scores)
