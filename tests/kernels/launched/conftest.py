"""The fused operators, launched: in Triton's interpreter on a CPU, or for real on a GPU (`-m gpu`).

The interpreter needs a process of its own (TRITON_INTERPRET=1 before triton is imported, and no ahead-of-time compile
beside it): `tests/kernels/test_interpreted.py` starts it. A plain pytest run on a machine without a GPU collects
nothing here.
"""

import csv
import dataclasses
import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
ON_GPU = torch.cuda.is_available() and not INTERPRETED

collect_ignore_glob = [] if INTERPRETED or ON_GPU else ["test_*.py"]

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def pytest_collection_modifyitems(items):
    for item in items:
        if ON_GPU and "launched" in item.path.parts:
            item.add_marker(pytest.mark.gpu)


def pytest_configure():
    if INTERPRETED:
        patch_the_language_once()
        teach_bfloat16()


def patch_the_language_once():
    """Patch triton.language for the whole process: the interpreter does it again at every call of a device function."""
    import triton.language as tl
    from triton.runtime import interpreter

    for language in (tl, tl.core):
        scope = {"language": language}
        exec("def function(): pass", scope)
        interpreter._patch_lang(scope["function"])
    interpreter._patch_lang = lambda fn: interpreter._LangPatchScope()
    # Each sum and product would be made twice, to look for overflowing integers.
    options = interpreter.interpreter_builder.options
    interpreter.interpreter_builder.options = dataclasses.replace(options, sanitize_overflow=False)


def teach_bfloat16():
    """Let the interpreter multiply bf16 as numbers, not as the bits that hold them, and round as a GPU does."""
    import triton.language as tl
    from triton.runtime import interpreter

    def widened(handle):
        bits = handle.data.astype(np.uint32) << 16
        return interpreter.TensorHandle(bits.view(np.float32), tl.float32)

    def narrowed(handle):
        halves = torch.from_numpy(np.ascontiguousarray(handle.data)).to(torch.bfloat16)
        return interpreter.TensorHandle(halves.view(torch.int16).numpy().view(np.uint16), tl.bfloat16)

    class Builder(interpreter.InterpreterBuilder):
        def create_dot(self, a, b, d, *options):
            a, b = (widened(x) if x.dtype.scalar == tl.bfloat16 else x for x in (a, b))
            return super().create_dot(a, b, d, *options)

        def cast_impl(self, source, target):
            pair = (source.dtype.scalar, target.scalar)
            if pair == (tl.bfloat16, tl.float32):
                return widened(source)
            return narrowed(source) if pair == (tl.float32, tl.bfloat16) else super().cast_impl(source, target)

    interpreter.interpreter_builder.__class__ = Builder


@pytest.fixture(scope="session")
def device():
    return "cpu" if INTERPRETED else "cuda"


@pytest.fixture(params=DTYPES, ids=lambda d: str(d).removeprefix("torch."))
def dtype(request):
    return request.param


@pytest.fixture(autouse=True)
def small_tiles():
    """Cut tiny shapes into several tiles; on a GPU the default tiles are what is tested."""
    from vlseg.kernels import tiles

    if not INTERPRETED:
        yield
        return
    with tiles.forced(tiles.Tile(rows=16, block=32, warps=4, stages=2, shares=2)):
        yield


@pytest.fixture(autouse=True)
def poisoned_scratch(monkeypatch):
    """Hand out NaN for fresh buffers, so that a kernel that forgets a row is caught."""

    def poison(tensor):
        return tensor.fill_(float("nan")) if tensor.is_floating_point() else tensor

    for name in ("empty", "empty_like"):
        fresh = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *a, fresh=fresh, **k: poison(fresh(*a, **k)))


WORST = {"over_budget": 0.0, "where": ""}
"""The largest error over its budget of those within, and in which test it was; one beyond fails its test."""


def keep_worst(share):
    if share > WORST["over_budget"]:
        WORST.update(over_budget=share, where=os.environ.get("PYTEST_CURRENT_TEST", "").rsplit("/", 1)[-1])


def pytest_terminal_summary(terminalreporter):
    """Print the worst error over its budget, and keep it as a row where $OUT says so."""
    if not (INTERPRETED or ON_GPU):
        return
    counts = {kind: len(terminalreporter.stats.get(kind, [])) for kind in ("passed", "failed", "error", "skipped")}
    terminalreporter.write_line(f"worst error over budget: {WORST['over_budget']:.3f} {WORST['where']}")
    if "OUT" in os.environ:
        device = torch.cuda.get_device_name() if ON_GPU else "interpreter"
        row = counts | WORST | {"device": device, "torch": torch.__version__}
        with open(Path(os.environ["OUT"]) / "tests.csv", "a", newline="") as file:
            writer = csv.DictWriter(file, row, lineterminator="\n")
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)


def assert_no_worse_than_eager(name, fused, eagers, exact):
    """Let the fused result err twice as much as eager does at the same dtype, plus one rounding, and no more.

    `eagers` are results at inputs that differ by one rounding: the error of a single run is a matter of luck.
    """
    assert fused.shape == exact.shape and fused.dtype == eagers[0].dtype, name
    assert torch.isfinite(fused).all(), f"{name}: a value was never written"
    if fused.numel() == 0:
        return
    error = (fused.double() - exact).abs().max().item()
    eager_error = max((eager.double() - exact).abs().max().item() for eager in eagers)
    budget = 2 * eager_error + torch.finfo(fused.dtype).eps * exact.abs().max().item()
    assert error <= budget, f"{name}: fused errs {error:.1e}, eager {eager_error:.1e}, budget {budget:.1e}"
    keep_worst(error / budget if budget else 0.0)


def flat(arguments):
    """Return every tensor in nested tuples and dicts, in order."""
    if isinstance(arguments, torch.Tensor):
        return [arguments]
    values = arguments.values() if isinstance(arguments, dict) else arguments
    return [t for value in values if isinstance(value, (torch.Tensor, tuple, list, dict)) for t in flat(value)]


def converted(arguments, change):
    """Return nested tuples and dicts with `change` applied to each tensor."""
    if isinstance(arguments, torch.Tensor):
        return change(arguments)
    if isinstance(arguments, dict):
        return {key: converted(value, change) for key, value in arguments.items()}
    if isinstance(arguments, tuple):
        values = [converted(value, change) for value in arguments]
        return type(arguments)(*values) if hasattr(arguments, "_fields") else tuple(values)
    return arguments


@pytest.fixture(scope="session")
def judge():
    """Return a function that compares output and every gradient of an operator with float64 and with eager."""

    def run(operator, arguments, options, impl, gradient):
        leaves = [t for t in flat((arguments, options)) if t.requires_grad]
        out = operator(*arguments, **options, impl=impl)
        grads = torch.autograd.grad(out, leaves, gradient.to(out.dtype), materialize_grads=True)
        return [out.detach(), *grads]

    def compare(operator, arguments, options):
        moves = torch.Generator().manual_seed(2)

        def moved(t):
            if not t.is_floating_point():
                return t
            step = torch.finfo(t.dtype).eps * torch.randint(-1, 2, t.shape, generator=moves).to(t)
            return (t.detach() * (1 + step)).requires_grad_(t.requires_grad)

        def at(change):
            return run(operator, converted(arguments, change), converted(options, change), "reference", gradient)

        def exact(t):
            return t.detach().double().requires_grad_(t.requires_grad) if t.is_floating_point() else t

        with torch.no_grad():
            shape = operator(*arguments, **options, impl="reference").shape
        gradient = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(flat(arguments)[0])
        fused = run(operator, arguments, options, "fused", gradient)
        eagers = zip(*(at(change) for change in (lambda t: t, moved, moved, moved)), strict=True)
        for index, triple in enumerate(zip(fused, eagers, at(exact), strict=True)):
            assert_no_worse_than_eager("output" if index == 0 else f"gradient {index}", *triple)

    return compare


@pytest.fixture
def draw(device):
    """Return a function that draws a leaf tensor of a shape and dtype."""
    generator = torch.Generator().manual_seed(0)

    def tensor(*shape, dtype=torch.float32, spread=1.0):
        return (torch.randn(*shape, generator=generator) * spread).to(device, dtype).requires_grad_()

    return tensor


class Launches(TorchDispatchMode):
    """What runs on the device, inside the custom operators too.

    Triton kernels by name, PyTorch operators that are neither views nor buffers, and the largest tensor made.
    """

    def __init__(self):
        super().__init__()
        self.kernels = []
        self.other = []
        self.largest = 0
        self.inside = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        view = any(r.alias_info is not None for r in func._schema.returns)
        # A custom operator is what launches, and the poison of fresh buffers belongs to the tests.
        if func.namespace == "aten" and not view:
            self.largest = max([self.largest, *(t.numel() for t in flat((out,)))])
            if not name.startswith(("empty", "new_empty")):
                self.other.append(name)
        return out

    def looking_in(self, function):
        """Return a function whose inner operators are seen: while an operator runs, a mode is off."""

        def run(*args, **kwargs):
            if self.inside:
                return function(*args, **kwargs)
            self.inside = True
            try:
                with self:
                    return function(*args, **kwargs)
            finally:
                self.inside = False

        return run


@pytest.fixture
def count_launches(monkeypatch):
    """Return a context manager that lists the launches inside it."""
    import triton

    from vlseg.kernels import bottleneck, fusion, pooling

    @contextmanager
    def counting():
        launches = Launches()
        kind = triton.runtime.interpreter.InterpretedFunction if INTERPRETED else triton.JITFunction
        run = kind.run

        def counted(self, *args, **kwargs):
            launches.kernels.append(self.__name__)
            return run(self, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(kind, "run", counted)
            for module in (bottleneck, fusion, pooling):
                for name in ("forward", "backward"):
                    patch.setattr(module, name, launches.looking_in(getattr(module, name)))
            with launches:
                yield launches

    return counting
