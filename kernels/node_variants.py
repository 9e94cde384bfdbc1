"""The kernel behind a node of a graph: what to compile ahead of time so that an engine can launch it as a plugin."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .forms import RANK_LIMIT
from .nodes import BottleneckNode, ClosedNode, Node
from .sites import MANY
from .variants import Variant, bottleneck_variant, closed_variant, distinct

Sizes = Mapping[str, Sequence[int]]
DTYPES = ("fp32", "fp16")
"""What a plugin is compiled in; the third, bfloat16, no engine is built in."""


@dataclass(frozen=True)
class Launch:
    """How an engine launches one node.

    Attributes:
        variants: the same work in tiles of several sizes, of which the engine takes the fastest.
        sizes: for inputs that say so, the shape they must have; None is free.
        symbols: what the grid and the integer arguments are made from: a number, or an input's name and one axis of it.
        outputs: for each output, the input whose shape and dtype it has.
    """

    variants: list[Variant]
    sizes: dict[str, list[int | None]]
    symbols: dict[str, int | list[Any]]
    outputs: list[str]


def launch_of(node: Node, dtype: str, sizes: Sizes) -> Launch | None:
    """Return how a node of the given input shapes, at batch 1, is launched; None where it has no kernel."""
    if dtype not in DTYPES:
        return None
    if isinstance(node, ClosedNode):
        return _closed(node, dtype, sizes)
    width, rank = sizes["up"]
    return None if rank > RANK_LIMIT else _bottleneck(node, dtype, width, rank, sizes["x"][0])


def _bottleneck(node: BottleneckNode, dtype: str, width: int, rank: int, rows: int) -> Launch:
    variants = [_bottleneck_variant(node, dtype, width, rank, many) for many in (rows, MANY)]
    fixed: dict[str, list[int | None]] = {"x": [None, width], "up": [width, rank]}
    return Launch(distinct(variants), fixed, {"tokens": ["x", 0], "batch": 1}, ["x"])


def _bottleneck_variant(node: BottleneckNode, dtype: str, width: int, rank: int, rows: int) -> Variant:
    """Return the plugin variant with what is in the node's name: activations, epsilon, scale and residual."""
    normed = node.eps is not None
    variant = bottleneck_variant(dtype, width, rank, normed=normed, folded=node.folded, tokens=rows)
    constants = variant.constants | {"INNER": node.inner, "OUTER": node.outer}
    if node.eps is not None:
        constants["EPS"] = float(f"1e-{node.eps}")
    more = ["scale_ptr"] * node.scaled + ["residual_ptr"] * node.residual
    arguments = variant.arguments | dict.fromkeys(more, f"*{dtype}")
    return replace(variant, constants=constants, arguments=arguments)


def _closed(node: ClosedNode, dtype: str, sizes: Sizes) -> Launch:
    _, tokens, width = sizes["vision"]
    variant = closed_variant(dtype, width, sizes["value_weight"][0], tokens)
    variant = replace(variant, constants=variant.constants | {"EPS": float(f"1e-{node.eps}")})
    fixed: dict[str, list[int | None]] = {"vision": [None, tokens, width], "value_weight": list(sizes["value_weight"])}
    return Launch([variant], fixed, {"batch": ["vision", 0]}, ["vision"])
