"""The whole model on a GPU: eager, compiled, ours, ONNX Runtime, each adapted and frozen; rows of a CSV, and the tax.

From pixels to logits with constant text, CLIPSeg with the layers that never reach the mask removed on every side. Ours
is folded, with fused adapters, replayed from a CUDA graph. `python -m vlseg.export.whole --out DIR` needs a GPU;
with `--tiny` the same lines run at test size on a CPU, which proves that they run and says nothing of speed.
"""

import argparse
import copy
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..deploy.rows import append_row
from ..deploy.stats import paired_ratio, summary
from ..kernels import ops
from ..kernels.gpu import FAILURES as LAUNCH_FAILURES
from ..kernels.timing import peak_mib
from ..train.models.clipseg import Clipseg
from ..train.models.fold import down_sites, fold
from ..train.models.grafts import grafts
from ..train.models.methods import build_model
from ..train.models.parts import parts_of
from .timing import interleave

Call = Callable[[], object]
Row = dict[str, Any]
SENTENCE = "one small round spot on the left"
SUBJECTS = {"adapted": "clipseg/dense-vl", "frozen": "clipseg/frozen"}
FAILURES = (*LAUNCH_FAILURES, ValueError, TypeError, AttributeError, ImportError, OSError)
"""What a missing library, an export or a compile that fails, or memory that runs out raises: one way may fail alone."""


@dataclass(frozen=True)
class Setting:
    """What is measured and how.

    Attributes:
        device: "cuda" or "cpu".
        size: of the CLIPSeg.
        batch: images at a time.
        rounds: every way runs once in each.
    """

    device: str = "cuda"
    size: str = "base"
    batch: int = 1
    rounds: int = 60

    @property
    def dtype(self) -> torch.dtype:
        """Half precision on a GPU, single on a CPU."""
        return torch.float16 if self.device == "cuda" else torch.float32


class FromPixels(nn.Module):
    """Pixels and the embedding of a text to logits."""

    def __init__(self, model: Clipseg) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor, text: Tensor) -> Tensor:
        """Return logits (B, 1, S, S) for pixels (B, 3, S, S) and an embedding (B, 2, R)."""
        return self.model.decode(self.model.image_embedding(self.model.image_states(pixels)), text)


class Subject:
    """One model on the device with its inputs, and every way to run it."""

    def __init__(self, name: str, setting: Setting, undo: ExitStack) -> None:
        """Build the model with random weights, adapters scaled down to what trained ones are like."""
        self.name, self.setting, self._undo = name, setting, undo
        model = build_model(SUBJECTS[name], setting.size, weights="random")
        with torch.no_grad():
            for _, one in grafts(model):
                for parameter in one.graft.parameters():
                    parameter.mul_(0.05)
            ids, mask = (torch.from_numpy(array) for array in model.tokenizer([SENTENCE]))
            (text,) = parts_of(model)["text"](ids, mask)
        self.original = model
        self.model = copy.deepcopy(model).to(setting.device, setting.dtype).requires_grad_(False)
        side = model.image_size
        pixels = torch.randn(setting.batch, 3, side, side, generator=torch.Generator().manual_seed(0))
        self.pixels = pixels.to(setting.device, setting.dtype)
        self.text = text.expand(setting.batch, -1, -1).to(setting.device, setting.dtype).contiguous()

    def eager(self) -> Call:
        """Return the trimmed model as it was trained, one PyTorch operator at a time."""
        return self._call(FromPixels(self.model), "reference")

    def compiled(self) -> Call:
        """Return the same through torch.compile, its CUDA graphs included."""
        how: dict[str, Any] = {"mode": "max-autotune"} if self.setting.device == "cuda" else {"backend": "aot_eager"}
        return self._call(torch.compile(FromPixels(self.model), **how), "reference")

    def ours(self) -> Call:
        """Return the folded model with fused adapters, replayed from a CUDA graph."""
        return graphed(self.ours_launched(), self.setting.device)

    def ours_launched(self) -> Call:
        """Return the same, launched operator by operator."""
        return self._call(FromPixels(self._folded(())), "fused")

    def ours_down(self) -> Call:
        """Return ours with every down-projection folded into the linear before it."""
        sites = down_sites(self.model)
        return graphed(self._call(FromPixels(self._folded(sites)), "fused"), self.setting.device)

    def onnxruntime(self) -> Call:
        """Return the exported model in ONNX Runtime, copies to and from the device included."""
        import onnx

        from ..deploy.engines.cuda import CudaRuntime
        from ..deploy.engines.ort import OnnxRuntime
        from .graph import to_onnx
        from .parts import sources_of
        from .precision import in_precision
        from .prepare import prepare

        folder = Path(self._undo.enter_context(tempfile.TemporaryDirectory()))
        sources, engines = sources_of(prepare(self.original)), {}
        on_gpu = self.setting.device == "cuda"
        for part in ("image", "decoder"):
            module = in_precision(sources[part].module, "fp16" if on_gpu else "fp32")
            onnx.save(to_onnx(replace(sources[part], module=module)), folder / f"{part}.onnx")
            engines[part] = (CudaRuntime if on_gpu else OnnxRuntime)(folder / f"{part}.onnx")
        pixels, text = (tensor.float().cpu().numpy() for tensor in (self.pixels, self.text))

        def run() -> object:
            embedding = engines["image"].run({"pixel_values": pixels})["image_embedding"]
            return engines["decoder"].run({"image_embedding": embedding, "text_embedding": text})["logits"]

        return run

    def _folded(self, sites: Any) -> Clipseg:
        folded = copy.deepcopy(self.original).requires_grad_(False)
        fold(folded, sites)
        return folded.to(self.setting.device, self.setting.dtype)

    def _call(self, module: Callable[..., Tensor], impl: ops.Impl) -> Call:
        def run() -> object:
            with torch.inference_mode(), ops.preferring(impl):
                return module(self.pixels, self.text)

        return run


def graphed(call: Call, device: str) -> Call:
    """Return a call's replay from a CUDA graph; on a CPU, where there is none, the call itself."""
    if device == "cpu":
        return call
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


WAYS: dict[str, Callable[[Subject], Call]] = {
    "ours": Subject.ours,
    "ours, down folded": Subject.ours_down,
    "ours, launched": Subject.ours_launched,
    "eager": Subject.eager,
    "onnxruntime": Subject.onnxruntime,
    "compile": Subject.compiled,
}
FIRST = ("ours", "ours, down folded", "ours, launched", "eager", "onnxruntime")
THEN = ("ours", "eager", "compile")
"""A compile takes minutes, so all else is measured, and its rows written, before it begins."""

RATIOS = ("tax", "over_eager", "over_compile")
LEAST_OVER_EAGER, LEAST_OVER_COMPILE = 5.0, 1.0
MOST_TAX = {1: 1.08, 8: 1.04}


def measure(setting: Setting, ways: tuple[str, ...]) -> Iterator[Row]:
    """Yield a row for each way and subject that runs, taken in turns, and one that says why for each that does not."""
    with ExitStack() as undo:
        subjects = [Subject(name, setting, undo) for name in SUBJECTS]
        ready: dict[tuple[str, str], Call] = {}
        for way in ways:
            for subject in subjects:
                try:
                    call = WAYS[way](subject)
                    call()
                    ready[way, subject.name] = call
                except FAILURES as error:
                    yield _row(setting, way, subject.name) | {"note": f"failed: {str(error).strip()[:300]!r}"}
        arms = {f"{way}/{name}": _finished(call, setting.device) for (way, name), call in ready.items()}
        times = interleave(arms, setting.rounds)["wall"]
        for way, name in ready:
            yield _row(setting, way, name) | _figures(setting, way, name, arms, times)


def _finished(call: Call, device: str) -> Call:
    """Return a call that ends when the device has ended."""

    def run() -> object:
        found = call()
        if device == "cuda":
            torch.cuda.synchronize()
        return found

    return run


def _row(setting: Setting, way: str, name: str) -> Row:
    """Return the columns of one way and subject, the figures still empty."""
    dtype = str(setting.dtype).removeprefix("torch.")
    row = {"way": way, "subject": name, "size": setting.size, "batch": setting.batch, "dtype": dtype}
    row["device"] = torch.cuda.get_device_name() if setting.device == "cuda" else "cpu"
    ratios = [f"{ratio}{end}" for ratio in RATIOS for end in ("", "_low", "_high")]
    figures = ("p50_ms", "p90_ms", "p99_ms", "images_per_s", "peak_mib", "pairs", *ratios)
    return row | dict.fromkeys(figures, "") | {"note": ""}


def _figures(setting: Setting, way: str, name: str, arms: dict[str, Call], times: dict[str, list[float]]) -> Row:
    """Return what was measured: the tax over the same way frozen, the gains of this way over eager and compiled."""
    mine = times[f"{way}/{name}"]
    found = summary([1e3 * seconds for seconds in mine])
    row: Row = {key: round(found[key], 4) for key in ("p50_ms", "p90_ms", "p99_ms")}
    row |= {"images_per_s": round(1e3 * setting.batch / found["p50_ms"], 1), "pairs": len(mine)}
    row["peak_mib"] = round(peak_mib(arms[f"{way}/{name}"], setting.device), 1)
    others = dict(zip(RATIOS, (f"{way}/frozen", f"eager/{name}", f"compile/{name}"), strict=True))
    for column, other in others.items():
        if other in times:
            pair = (mine, times[other]) if column == "tax" else (times[other], mine)
            median, low, high = (round(value, 4) for value in paired_ratio(*pair)[:3])
            row |= {column: median, f"{column}_low": low, f"{column}_high": high}
    return row


def goals(row: Row) -> str:
    """Return one row's line of the last table: speed-up and tax beside what they should be."""
    line = f"{row['way']}, {row['subject']}, batch {row['batch']}: "
    if row["note"]:
        return line + row["note"]
    line += f"p50 {row['p50_ms']} ms, {row['images_per_s']} images/s, {row['peak_mib']} MiB"
    judged = row["way"].startswith("ours") and row["subject"] == "adapted" and row["device"] != "cpu"
    for column, goal in (
        ("over_eager", LEAST_OVER_EAGER if row["batch"] == 1 else None),
        ("over_compile", LEAST_OVER_COMPILE),
        ("tax", MOST_TAX.get(row["batch"])),
    ):
        if row[column] != "":
            line += f", {column} {row[column]}" + (f" (goal {goal})" if judged and goal else "")
    return line


def measure_all(out: Path, batches: tuple[int, ...], tiny: bool, seconds: float) -> list[Row]:
    """Append every row to `out`/whole.csv as it comes, compiled ones last and only while there is time; return them."""
    setting = Setting("cpu", "nano", rounds=3) if tiny else Setting()
    rows: list[Row] = []
    start = time.monotonic()
    for ways in (FIRST, THEN):
        for batch in batches:
            now = replace(setting, batch=batch)
            late = _row(now, ways[-1], "adapted") | {"note": f"not measured: {seconds:.0f} s were over"}
            for row in [late] if time.monotonic() - start > seconds else measure(now, ways):
                append_row(out / "whole.csv", row)
                sys.stderr.write(f"{goals(row)}\n")
                rows.append(row)
    return rows


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("gpu_out"), help="folder for whole.csv")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="images at a time")
    parser.add_argument("--tiny", action="store_true", help="test size on a CPU, to prove that it runs")
    parser.add_argument("--seconds", type=float, default=100, help="when to stop starting measurements")
    options = parser.parse_args()
    rows = measure_all(options.out, tuple(options.batch), options.tiny, options.seconds)
    print("\n".join(map(goals, rows)))


if __name__ == "__main__":
    main()
