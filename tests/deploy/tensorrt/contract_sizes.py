"""Shapes of a node's inputs: what its kernel fixes, and for the rest what an engine could have."""

ROWS, BATCH = 97, 3


def bottleneck(width: int, rank: int, rows: int = ROWS) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a bottleneck's inputs."""
    vectors = dict.fromkeys(("norm_weight", "norm_bias", "up_bias", "scale"), (width,))
    streams = dict.fromkeys(("x", "residual"), (rows, width))
    return {
        **streams,
        **vectors,
        "hidden": (rows, rank),
        "down": (rank, width),
        "down_bias": (rank,),
        "up": (width, rank),
    }


def closed(width: int, tokens: int, inner: int, batch: int = BATCH) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a gated cross-attention's inputs, for one text token."""
    vectors = dict.fromkeys(("norm_weight", "norm_bias", "out_bias", "gamma"), (width,))
    linears = {"value_weight": (inner, width), "value_bias": (inner,), "out_weight": (width, inner)}
    return {"vision": (batch, tokens, width), "text": (batch, 1, width), **vectors, **linears}
