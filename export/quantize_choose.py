"""Which linears of a bundle become eight-bit: the cost of every layer group is measured, and what hurts stays as it is.

Both sides are run on the calibration pictures; the float model's masks are the yardstick (`judge.py`).
"""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import onnx

from ..deploy.engine import Engine
from ..deploy.engines.ort import OnnxRuntime
from ..deploy.flow import ENCODERS
from ..deploy.manifest import Manifest
from ..deploy.segmenter import Segmenter
from .judge import Cost, Judge, Key, Picture, Tell, choose
from .quantize import KINDS, Linear, check_some, groups_of, linears_of, quantize
from .quantize_ranges import ranges


def quantize_bundle(
    folder: Path, manifest: Manifest, pictures: Sequence[Picture], kind: str, tell: Tell
) -> list[dict[str, Any]]:
    """Quantise the encoders of a float bundle in place, without sealing it; return a record for each layer group.

    Args:
        folder: the bundle, whose ONNX files of the encoders are replaced.
        manifest: its description.
        pictures: uint8 (H, W, 3) and what is asked of each; none is kept.
        kind: one of `quantize.KINDS`.
        tell: is told the cost of each group.

    Raises:
        UserError: no encoder has a linear layer that can be quantised.
    """
    with ExitStack() as undo:
        yard = undo.enter_context(Yard(folder, manifest, pictures))
        tell(f"measuring ranges on {len(pictures)} pictures")
        choice = Choice(yard, kind)
        costs = {key: yard.cost(choice.parts([key])) for key in choice.groups}
        kept = choose(costs, lambda keys: yard.cost(choice.parts(keys)), manifest.precision)
        records = [_record(key, len(choice.groups[key]), costs[key], key in kept) for key in choice.groups]
        for record in records:
            tell(_sentence(record, kind))
        made = choice.parts(kept)
    for part, graph in made.items():
        onnx.save(graph, folder / str(manifest.parts[part]))
    return records


class Yard:
    """A float bundle that has answered the calibration pictures, and changed graphs of its parts."""

    def __init__(self, folder: Path, manifest: Manifest, pictures: Sequence[Picture]) -> None:
        self.manifest, self.folder = manifest, folder
        self._undo = ExitStack()
        self._scratch = Path(self._undo.enter_context(tempfile.TemporaryDirectory()))
        self.judge = Judge(self._undo.enter_context(Segmenter.open(folder, engine="onnxruntime")), pictures)

    def cost(self, changed: Mapping[str, onnx.ModelProto]) -> Cost:
        """Return what the masks lose when these parts are replaced."""
        with ExitStack() as undo:
            return self.judge.cost({part: undo.enter_context(self._open(graph)) for part, graph in changed.items()})

    def _open(self, graph: onnx.ModelProto) -> Engine:
        path = self._scratch / "candidate.onnx"
        onnx.save(graph, path)
        return OnnxRuntime(path)

    def __enter__(self) -> "Yard":
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the bundle."""
        self._undo.close()


class Choice:
    """The encoders' graphs, what could be quantised in them, and how far its inputs reach."""

    def __init__(self, yard: Yard, kind: str) -> None:
        self._kind = KINDS[kind]
        parts = [part for part in ENCODERS if part in yard.judge.running]
        self._graphs = {part: onnx.load(yard.folder / str(yard.manifest.parts[part])) for part in parts}
        found = {part: linears_of(graph) for part, graph in self._graphs.items()}
        check_some(found, yard.manifest.method)
        self.groups: dict[Key, list[Linear]] = {
            (part, group): linears for part in parts for group, linears in groups_of(found[part]).items()
        }
        self._ranges = {
            part: ranges(self._graphs[part], found[part], yard.judge.feeds(part), self._kind) if found[part] else {}
            for part in parts
        }

    def parts(self, keys: Sequence[Key]) -> dict[str, onnx.ModelProto]:
        """Return the parts that these groups are of, with them quantised."""
        linears: dict[str, list[Linear]] = {}
        for part, group in keys:
            linears.setdefault(part, []).extend(self.groups[part, group])
        return {
            part: quantize(self._graphs[part], some, self._ranges[part], self._kind) for part, some in linears.items()
        }


def _record(key: Key, count: int, cost: Cost, kept: bool) -> dict[str, Any]:
    part, group = key
    return {"part": part, "group": group, "linears": count, **cost.figures, "quantised": kept}


def _sentence(record: dict[str, Any], kind: str) -> str:
    how = kind if record["quantised"] else "left as it was"
    cost = f"least Dice {record['dice']:.4f}, {record['flipped']:.4%} flipped"
    return f"{record['part']} {record['group']}: {record['linears']} linears, {cost}: {how}"
