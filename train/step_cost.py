"""What a training step costs, with eager and with fused adapters: milliseconds and memory, as rows of a CSV.

A step is forward, backward and AdamW under bf16 autocast; the adapters' share is their own forward and backward at the
shapes that the step gives them. `python -m vlseg.train.step_cost --out DIR` needs a GPU; with `--tiny` the same lines
run at test size on a CPU, which proves that they run and says nothing of speed.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ..deploy.rows import append_row
from ..kernels import ops, timing
from ..kernels.gpu import FAILURES as LAUNCH_FAILURES
from .models.adapters import Bottleneck
from .models.grafts import trained_parameters
from .models.methods import METHODS, build_model

Call = Callable[[], object]
Row = dict[str, Any]
WANTED = ("clipseg/dense-vl", "sam/lga")
SENTENCE = "one small round spot on the left"
IMPLS: tuple[ops.Impl, ...] = ("reference", "fused")
FAILURES = (*LAUNCH_FAILURES, ValueError, TypeError, AttributeError, ImportError, OSError)
"""What an absent library or memory that runs out raises: one method may fail alone."""


@dataclass(frozen=True)
class Setting:
    """What is measured: a method at a size, images at a time, on a device."""

    method: str
    size: str
    batch: int
    device: str

    def autocast(self) -> AbstractContextManager:
        """Return bf16 autocast, which is off on a CPU, where the interpreter multiplies no bf16."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda")


class Step:
    """One model with random weights, a batch of random images, and the step that trains it."""

    def __init__(self, setting: Setting) -> None:
        """Put model and batch on the device."""
        self.setting = setting
        self.model = build_model(setting.method, setting.size, weights="random").to(setting.device)
        side = self.model.image_size
        draw = torch.Generator().manual_seed(0)
        pixels = torch.randn(setting.batch, 3, side, side, generator=draw)
        ids, mask = (torch.from_numpy(array) for array in self.model.tokenizer([SENTENCE] * setting.batch))
        self.inputs = [tensor.to(setting.device) for tensor in (pixels, ids, mask)]
        self.masks = (torch.rand(setting.batch, 1, side, side, generator=draw) > 0.9).float().to(setting.device)
        self.optimizer = torch.optim.AdamW(trained_parameters(self.model).values(), lr=1e-4)

    def __call__(self) -> None:
        """Train for one step."""
        with self.setting.autocast():
            logits = self.model(*self.inputs)
        loss = binary_cross_entropy_with_logits(logits.float(), self.masks)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def adapters(self) -> Call | None:
        """Return a forward and backward of every adapter at the inputs of a step; None where the model has none."""
        found: list[tuple[nn.Module, Tensor]] = []
        hooks = [
            module.register_forward_hook(lambda module, given, _: found.append((module, given[0].detach())))
            for module in self.model.modules()
            if isinstance(module, Bottleneck)
        ]
        with self.setting.autocast(), torch.no_grad():
            self.model(*self.inputs)
        for hook in hooks:
            hook.remove()
        return (lambda: self._alone(found)) if found else None

    def _alone(self, found: list[tuple[nn.Module, Tensor]]) -> None:
        for module, x in found:
            with self.setting.autocast():
                out = module(x.requires_grad_())
            torch.autograd.grad(out, [x, *module.parameters()], torch.ones_like(out))


def rows(setting: Setting) -> Iterator[Row]:
    """Yield a row for each implementation: the step, the adapters' share, and both over the reference's."""
    first: dict[str, float] = {}
    for impl in IMPLS:
        with ops.preferring(impl):
            step = Step(setting)
            adapters = step.adapters()
            figures = {"step_ms": timing.timed(step, setting.device).p50}
            if adapters is not None:
                figures["adapters_ms"] = timing.timed(adapters, setting.device).p50
            figures["peak_mib"] = timing.peak_mib(step, setting.device)
        first = first or figures
        row = _row(setting, impl) | {name: round(value, 4) for name, value in figures.items()}
        if impl == "fused":
            row |= {f"{name}_over_reference": _ratio(first[name], value) for name, value in figures.items()}
        yield row


def _ratio(reference: float, fused: float) -> float | str:
    return round(fused / reference, 4) if reference else ""


def _row(setting: Setting, impl: str) -> Row:
    """Return the columns of one implementation, the figures still empty."""
    device = torch.cuda.get_device_name() if setting.device == "cuda" else "cpu"
    dtype = "bfloat16" if setting.device == "cuda" else "float32"
    subject = {"method": setting.method, "size": setting.size, "batch": setting.batch, "autocast": dtype}
    figures = ("step_ms", "adapters_ms", "peak_mib")
    names = (*figures, *(f"{figure}_over_reference" for figure in figures))
    return subject | {"impl": impl, "device": device} | dict.fromkeys(names, "") | {"note": ""}


def goals(row: Row) -> str:
    """Return one row's line of the last table: the figures beside what they should be."""
    line = f"{row['method']}, {row['impl']}, batch {row['batch']}: "
    if row["note"]:
        return line + row["note"]
    line += f"step {row['step_ms']} ms, adapters {row['adapters_ms']} ms, {row['peak_mib']} MiB"
    if row["impl"] == "fused" and row["device"] != "cpu":
        line += f"; adapters over reference {row['adapters_ms_over_reference']} (goal 0.5), "
        line += f"memory {row['peak_mib_over_reference']} (goal 0.85)"
    return line


def measure_all(out: Path, tiny: bool) -> list[Row]:
    """Append every row to `out`/train_step.csv as it comes, and return them."""
    found: list[Row] = []
    for method in [name for name in WANTED if name in METHODS]:
        lga = method.startswith("sam/")
        setting = Setting(method, "nano", 2, "cpu") if tiny else Setting(method, "base", 2 if lga else 16, "cuda")
        try:
            for row in rows(setting):
                found.append(row)
                _keep(out, row)
        except FAILURES as error:
            found.append(_row(setting, "") | {"note": f"failed: {str(error).strip()[:300]!r}"})
            _keep(out, found[-1])
    return found


def _keep(out: Path, row: Row) -> None:
    append_row(out / "train_step.csv", row)
    sys.stderr.write(f"{goals(row)}\n")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("gpu_out"), help="folder for train_step.csv")
    parser.add_argument("--tiny", action="store_true", help="test size on a CPU, to prove that it runs")
    options = parser.parse_args()
    print("\n".join(map(goals, measure_all(options.out, options.tiny))))


if __name__ == "__main__":
    main()
