"""Rows of what other forms of a bundle cost: engines for RTX cards, eight bits, adapters that can be changed.

`python -m vlseg.export.measure {rtx,int8,swap} BUNDLE... --csv FILE`; the bundles are float ones. Times are ratios of
interleaved runs on one thread, but for builds, which are seconds.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ..deploy import rtx
from ..deploy.drawn import draw_cases
from ..deploy.engine import Arrays
from ..deploy.engines.ort import OnnxRuntime
from ..deploy.manifest import Manifest
from ..deploy.rows import append_row
from ..deploy.segmenter import Segmenter
from ..deploy.stats import paired_ratio
from .many import overridable, tensors_of
from .quantize import KINDS, linears_of, quantize
from .quantize_ranges import ranges
from .timing import interleave

Row = dict[str, Any]
ROUNDS = 40
INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")
"""Sets of instructions that integer products may use, as Linux calls them."""


def rtx_rows(folder: Path, manifest: Manifest) -> list[Row]:
    """Return a row for the engine of each part, built here for every card of the precision."""
    rows = []
    for part, file in manifest.parts.items():
        if file is None:
            continue
        wanted = rtx.check_architectures((), manifest.precision)
        plan = rtx.build(folder / file, manifest.axes[part], wanted)
        nodes = onnx.load(folder / file, load_external_data=False).graph.node
        rows.append(
            {
                **_subject(manifest),
                "opset": manifest.opset,
                "part": part,
                "eight_bit_linears": sum(node.op_type == "QuantizeLinear" for node in nodes),
                "architectures": " ".join(map(str, plan.architectures)),
                "left_out": " ".join(map(str, plan.left_out)),
                "layers": plan.layers,
                "onnx_bytes": (folder / file).stat().st_size,
                "plan_bytes": len(plan.data),
                "seconds": round(plan.seconds, 2),
                "tensorrt_rtx": rtx.load().__version__,
            }
        )
    return rows


def int8_rows(folder: Path, manifest: Manifest, rounds: int = ROUNDS) -> list[Row]:
    """Return the time of every linear in eight bits by the float time: the image part, and image to logits."""
    with tempfile.TemporaryDirectory() as scratch, Segmenter.open(folder, "onnxruntime", threads=1) as model:
        inputs = [model.inputs_of_parts(case.image, case.prompt) for case in draw_cases(4)]
        path = Path(scratch) / "image.onnx"
        graph = onnx.load(folder / str(manifest.parts["image"]))
        linears, kind = linears_of(graph), KINDS["int8"]
        found = ranges(graph, linears, [one["image"] for one in inputs], kind)
        onnx.save(quantize(graph, linears, found, kind), path)
        eight = OnnxRuntime(path, threads=1)
        arms = {"int8": eight.run, "float": lambda given: model.run_part("image", given)}
        calls = _calls(arms, model, inputs[0])
        facts = {**_subject(manifest), "linears": len(linears), "instructions": " ".join(instruction_sets())}
        return [{**facts, **row} for row in _ratios(calls, ("int8", "float"), rounds)]


def swap_rows(folder: Path, manifest: Manifest, rounds: int = ROUNDS) -> list[Row]:
    """Return what changing an adapter moves and takes, and the time with adapters as inputs by that with constants."""
    graph = onnx.load(folder / str(manifest.parts["image"]))
    names = [one.name for one in graph.graph.initializer if ".graft." in one.name]
    tensors = tensors_of(graph, names)
    with tempfile.TemporaryDirectory() as scratch, Segmenter.open(folder, "onnxruntime", threads=1) as model:
        path, adapter = Path(scratch) / "image.onnx", Path(scratch) / "adapter.npz"
        onnx.save(overridable(graph, names), path)
        np.savez(adapter, **tensors)  # pyright: ignore[reportArgumentType]  # names of tensors
        free = OnnxRuntime(path, threads=1)
        case = draw_cases(1)[0]
        inputs = model.inputs_of_parts(case.image, case.prompt)
        arms: dict[str, Callable[[Arrays], Arrays]] = {
            "inputs": lambda given: free.run({**given, **tensors}),
            "constants": lambda given: model.run_part("image", given),
        }
        swaps = interleave({"swap": lambda: _read(adapter)}, rounds)["wall"]["swap"]
        opens = interleave({"open": lambda: OnnxRuntime(folder / str(manifest.parts["image"]), 1)}, 3, warmup=1)
        facts = {
            **_subject(manifest),
            "tensors": len(names),
            "bytes": sum(one.nbytes for one in tensors.values()),
            "swap_ms": round(1000 * float(np.median(swaps)), 3),
            "reopen_ms": round(1000 * float(np.median(opens["wall"]["open"])), 1),
        }
        return [{**facts, **row} for row in _ratios(_calls(arms, model, inputs), ("inputs", "constants"), rounds)]


def instruction_sets(path: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Return which of `INSTRUCTIONS` this processor has."""
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", path.read_text(), re.MULTILINE)
    has = set(found[1].split()) if found else set()
    return [name for name in INSTRUCTIONS if name in has]


def _calls(
    arms: Mapping[str, Callable[[Arrays], Arrays]], model: Segmenter, inputs: Mapping[str, Arrays]
) -> dict[str, dict[str, Callable[[], object]]]:
    """Return for each stage, the call of each arm: the image part alone, and from its input to logits."""
    calls: dict[str, dict[str, Callable[[], object]]] = {"image part": {}, "image to logits": {}}
    for name, run in arms.items():
        calls["image part"][name] = lambda run=run: run(inputs["image"])
        calls["image to logits"][name] = lambda run=run: model.run_part(
            "decoder", {**inputs["decoder"], **_known(run(inputs["image"]), inputs["decoder"])}
        )
    return calls


def _known(made: Arrays, wanted: Arrays) -> Arrays:
    return {name: array for name, array in made.items() if name in wanted}


def _ratios(calls: Mapping[str, Mapping[str, Callable[[], object]]], pair: tuple[str, str], rounds: int) -> list[Row]:
    rows = []
    for stage, arms in calls.items():
        times = interleave(arms, rounds)
        for clock, taken in times.items():
            ratio = paired_ratio(taken[pair[0]], taken[pair[1]])
            figures = {"ratio": round(ratio.median, 4), "low": round(ratio.low, 4), "high": round(ratio.high, 4)}
            rows.append(
                {"stage": stage, "of": " / ".join(pair), "clock": clock, **figures, "pairs": rounds, "threads": 1}
            )
    return rows


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _subject(manifest: Manifest) -> Row:
    return {"method": manifest.method, "size": manifest.size, "precision": manifest.precision}


KINDS_OF_ROWS: dict[str, Callable[[Path, Manifest], list[Row]]] = {
    "rtx": rtx_rows,
    "int8": int8_rows,
    "swap": swap_rows,
}


def main(words: Sequence[str] | None = None) -> None:
    """Measure bundles and append the rows to a CSV."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=KINDS_OF_ROWS)
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--csv", type=Path, required=True)
    given = parser.parse_args(words)
    for folder in given.bundles:
        for row in KINDS_OF_ROWS[given.what](folder, Manifest.load(folder)):
            append_row(given.csv, row)
            print(" ".join(f"{key}={value}" for key, value in row.items()), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
