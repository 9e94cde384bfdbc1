"""A node's kernel, launched as an engine does: inputs, integers and outputs in order, the grid as it is shipped."""

import pytest
import torch

from vlseg.deploy.tensorrt.kernels import evaluate
from vlseg.kernels import reference
from vlseg.kernels.compile import GRIDS
from vlseg.kernels.node_variants import launch_of
from vlseg.kernels.nodes import BottleneckNode, ClosedNode
from vlseg.kernels.reference import Attention, Norm

WIDTH, RANK, ROWS, INNER, TOKENS, BATCH = 40, 5, 21, 12, 19, 2
SIZES = {
    "x": (ROWS, WIDTH), "hidden": (ROWS, RANK), "residual": (ROWS, WIDTH), "norm_weight": (WIDTH,),
    "norm_bias": (WIDTH,), "down": (RANK, WIDTH), "down_bias": (RANK,), "up": (WIDTH, RANK), "up_bias": (WIDTH,),
    "scale": (WIDTH,), "vision": (BATCH, TOKENS, WIDTH), "text": (BATCH, 1, WIDTH), "value_weight": (INNER, WIDTH),
    "value_bias": (INNER,), "out_weight": (WIDTH, INNER), "out_bias": (WIDTH,), "gamma": (WIDTH,),
}  # fmt: skip
NODES = [
    BottleneckNode("relu", "relu"),
    BottleneckNode("identity", "identity", scaled=True),
    BottleneckNode("gelu", "identity", 6, residual=True),
    BottleneckNode("relu", "relu", folded=True),
    BottleneckNode("quick-gelu", "relu", folded=True, scaled=True, residual=True),
    ClosedNode(5),
    ClosedNode(6),
]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def drawn(node, dtype):
    draw = torch.Generator().manual_seed(7)
    return {name: torch.randn(SIZES[name], generator=draw).to(DEVICE, dtype) for name in node.inputs}


def launched(node, given, dtype):
    """Yield the output of each tile."""
    launch = launch_of(node, dtype, {name: tuple(tensor.shape) for name, tensor in given.items()})
    assert launch is not None
    for variant in launch.variants:
        symbols = {
            name: given[at[0]].shape[at[1]] if isinstance(at, list) else at for name, at in launch.symbols.items()
        }
        values = {**variant.bound(), **symbols}
        grid = tuple(evaluate(text, values, lambda a, b: -(-a // b)) for text in GRIDS[variant.kernel])
        y = torch.full_like(given[launch.outputs[0]], float("nan"))
        tensors = {f"{name}_ptr": tensor for name, tensor in given.items()} | {"y_ptr": y}
        order = [name for name in variant.signature() if name in variant.arguments]
        assert order == [*(f"{name}_ptr" for name in node.inputs), *(n for n in order if n in symbols), "y_ptr"]
        arguments = [
            tensors.get(name, values.get(name)) if name in variant.arguments else variant.bound()[name]
            for name in variant.function.arg_names
        ]
        variant.function[grid](*arguments, num_warps=variant.warps, num_stages=variant.stages)
        yield y


def meant(node, given):
    g = {name: tensor.double() for name, tensor in given.items()}
    eps = 10.0 ** -(node.eps or 5)
    if isinstance(node, ClosedNode):
        norm = Norm(g["norm_weight"], g["norm_bias"], eps)
        unseen = [g["value_weight"], g["value_bias"]] * 2
        weights = Attention(*unseen, g["value_weight"], g["value_bias"], g["out_weight"], g["out_bias"])
        return reference.gated_cross_attention(g["vision"], g["text"], weights, norm, norm, g["gamma"])
    options = {"inner": node.inner, "outer": node.outer, "scale": g.get("scale"), "residual": g.get("residual")}
    if node.folded:
        return reference.bottleneck_hidden(g["x"], g["hidden"], g["up"], g["up_bias"], **options)
    norm = Norm(g["norm_weight"], g["norm_bias"], eps) if node.eps else None
    return reference.bottleneck(g["x"], g["down"], g["down_bias"], g["up"], g["up_bias"], norm=norm, **options)


@pytest.mark.parametrize(("name", "dtype", "close"), [("fp32", torch.float32, 1e-5), ("fp16", torch.float16, 4e-3)])
@pytest.mark.parametrize("node", NODES, ids=lambda node: node.name)
def test_a_plugin_computes_what_its_function_means(node, name, dtype, close):
    given = drawn(node, dtype)
    expected = meant(node, given)
    tiles = list(launched(node, given, name))
    assert tiles
    for found in tiles:
        error = (found.double() - expected).abs().max() / expected.abs().max()
        assert error < close, f"{node.name}: off by {error:.1e}"
