"""The operators as PyTorch knows them: opcheck, compile, export and autocast, with no graph break."""

import pytest
import torch

from vlseg.kernels import library, ops


def linears(draw, width=16, rank=4):
    return draw(rank, width), draw(rank), draw(width, rank), draw(width)


def attention(draw, width=16, inner=8):
    pair = (inner, width), (inner,)
    return ops.Attention(*(draw(*shape) for shape in (*pair, *pair, *pair, (width, inner), (width,))))


def norm(draw, width=16):
    return ops.Norm(draw(width), draw(width))


def test_opcheck_of_the_bottleneck(draw):
    down, down_bias, up, up_bias = linears(draw)
    x, affine = draw(5, 16), norm(draw)
    weights = (down, down_bias, up, up_bias, draw(16), affine.weight, affine.bias)
    torch.library.opcheck(library.bottleneck_op, (x, None, draw(5, 16), *weights, "relu", "gelu", 1e-5, x.dtype))


def test_opcheck_of_the_backward(draw):
    weights = [t.detach() for t in (*linears(draw), draw(16))]
    x = draw(5, 16).detach()
    arguments = (x, x.clone(), None, *weights, None, None, "relu", "relu", 0.0, x.dtype, True)
    torch.library.opcheck(library.bottleneck_backward_op, arguments)


@pytest.mark.parametrize("text_tokens", [1, 3])
def test_opcheck_of_the_fusion(draw, text_tokens):
    vision, text = draw(1, 5, 16), draw(1, text_tokens, 16)
    norms = [*norm(draw)[:2], *norm(draw)[:2]]
    rest = (list(attention(draw)), norms)
    eps = [1e-5, 1e-5]
    # The adapter form's dispatch is that of the closed one, and the interpreter takes its time over it.
    which = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    which = which if text_tokens == 1 else which[1:3]
    fusion = (vision, text, *rest, draw(16), None, 1, eps, torch.float32)
    torch.library.opcheck(library.gated_cross_attention_op, fusion, test_utils=which)
    torch.library.opcheck(library.text_pooling_op, (text, vision, *rest, 1, eps, torch.float32), test_utils=which)


@pytest.mark.parametrize("text_tokens", [1, 9])
def test_opcheck_of_the_fusions_backwards(draw, text_tokens):
    vision, text = draw(1, 5, 16).detach(), draw(1, text_tokens, 16).detach()
    weights = [t.detach() for t in attention(draw)], [t.detach() for t in (*norm(draw)[:2], *norm(draw)[:2])]
    rest = (1, [1e-5, 1e-5], torch.float32)
    which = ("test_schema", "test_faketensor")
    fusion = (vision.clone(), vision, text, *weights, draw(16).detach(), None, *rest)
    torch.library.opcheck(library.gated_cross_attention_backward_op, fusion, test_utils=which)
    pooling = (text.clone(), text, vision, *weights, *rest)
    torch.library.opcheck(library.text_pooling_backward_op, pooling, test_utils=which)


class Adapter(torch.nn.Module):
    def __init__(self, impl):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.down, self.up = torch.nn.Linear(16, 16), torch.nn.Linear(16, 4), torch.nn.Linear(4, 16)
        self.norm = torch.nn.LayerNorm(16)
        self.impl = impl

    def forward(self, x):
        norm = ops.Norm(self.norm.weight, self.norm.bias, self.norm.eps)
        weights = (self.down.weight, self.down.bias, self.up.weight, self.up.bias)
        return ops.bottleneck(self.first(x), *weights, norm=norm, residual=x, impl=self.impl)


def test_compile_has_no_graph_break(device):
    fused, eager = Adapter("fused").to(device), Adapter("reference").to(device)
    compiled = torch.compile(fused, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 5, 16, device=device)
    torch.testing.assert_close(compiled(x), eager(x), rtol=1e-5, atol=1e-5)
    compiled(x).square().sum().backward()
    eager(x).square().sum().backward()
    for ours, theirs in zip(fused.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)


def test_export_keeps_one_node(device):
    program = torch.export.export(Adapter("fused").to(device), (torch.randn(2, 5, 16, device=device),), strict=True)
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert [name for name in called if "vlseg" in name] == ["vlseg.bottleneck.default"]
    x = torch.randn(2, 5, 16, device=device)
    torch.testing.assert_close(program.module()(x), Adapter("reference").to(device)(x), rtol=1e-5, atol=1e-5)


def test_autocast_makes_the_products_in_its_dtype_and_keeps_fp32_gradients(device):
    low = torch.float16 if device == "cpu" else torch.bfloat16
    fused, eager = Adapter("fused").to(device), Adapter("reference").to(device)
    x = torch.randn(2, 5, 16, device=device)
    with torch.autocast(device, dtype=low):
        ours, theirs = fused(x), eager(x)
    assert ours.dtype == theirs.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)
    ours.square().mean().backward()
    theirs.square().mean().backward()
    for mine, other in zip(fused.parameters(), eager.parameters(), strict=True):
        assert mine.grad is not None and other.grad is not None and mine.grad.dtype == torch.float32
        torch.testing.assert_close(mine.grad, other.grad, rtol=5e-2, atol=2e-2)


class Module(torch.nn.Module):
    """One fusion module, after a linear on each stream."""

    def __init__(self, impl, width=16, inner=8, rank=4):
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(width, width)
        shapes = dict.fromkeys(("pooling", "injection"), ((inner, width), (inner,)) * 3 + ((width, inner), (width,)))
        shapes |= dict.fromkeys(("text_mlp", "vision_mlp"), ((rank, width), (rank,), (width, rank), (width,)))
        shapes |= dict.fromkeys(("n1", "n2", "n3", "n4", "n5", "n6"), ((width,), (width,))) | {"gamma": ((width,),)}
        self.parts = torch.nn.ModuleDict(
            {name: torch.nn.ParameterList(torch.randn(*s) * 0.3 for s in sizes) for name, sizes in shapes.items()}
        )
        self.impl = impl

    def forward(self, vision, text):
        p = {name: list(part) for name, part in self.parts.items()}
        norms = [ops.Norm(*p[f"n{i}"]) for i in range(1, 7)]
        pooling, injection = ops.Attention(*p["pooling"]), ops.Attention(*p["injection"])
        text_mlp, vision_mlp = ops.Bottleneck(*p["text_mlp"]), ops.Bottleneck(*p["vision_mlp"])
        weights = ops.Fusion(
            pooling, *norms[:2], text_mlp, norms[2], injection, *norms[3:5], *p["gamma"], vision_mlp, norms[5]
        )
        return ops.fusion(self.first(vision), self.first(text), weights, impl=self.impl)


def both_modules(device, text_tokens):
    fused, eager = Module("fused").to(device), Module("reference").to(device)
    streams = [torch.randn(2, n, 16, generator=torch.Generator().manual_seed(n)).to(device) for n in (5, text_tokens)]
    return fused, eager, streams


def backward(outputs, module):
    sum(out.float().square().mean() for out in outputs).backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in module.parameters()]


@pytest.mark.parametrize("text_tokens", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_the_module_compiles_without_a_graph_break(device, text_tokens):
    fused, eager, streams = both_modules(device, text_tokens)
    compiled = torch.compile(fused, fullgraph=True, backend="aot_eager")
    ours, theirs = compiled(*streams), eager(*streams)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)
    for mine, other in zip(backward(ours, fused), backward(theirs, eager), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4)


def test_the_module_exports_as_four_nodes(device):
    fused, eager, streams = both_modules(device, 1)
    program = torch.export.export(fused, tuple(streams), strict=True)
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    found = [name.split(".")[1] for name in called if "vlseg" in name]
    assert found == ["text_pooling", "bottleneck", "gated_cross_attention", "bottleneck"]
    for mine, other in zip(program.module()(*streams), eager(*streams), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("low", [torch.float16, torch.bfloat16])
def test_the_module_under_autocast(device, low):
    fused, eager, streams = both_modules(device, 3)
    with torch.autocast(device, dtype=low):
        ours, theirs = fused(*streams), eager(*streams)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == other.dtype
        torch.testing.assert_close(mine, other, rtol=5e-2, atol=5e-2)
    for mine, other in zip(backward(ours, fused), backward(theirs, eager), strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, other, rtol=0.2, atol=0.05)
