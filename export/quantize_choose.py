"""Which linears of a bundle become eight-bit: the cost of every layer group is measured, and what hurts stays as it is.

Both sides are run on the calibration pictures; the float model's masks are the yardstick.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ..deploy.engine import Arrays, Engine
from ..deploy.engines.ort import OnnxRuntime
from ..deploy.flow import ENCODERS
from ..deploy.manifest import Manifest
from ..deploy.parity import LIMITS
from ..deploy.pixels import to_mask, to_probability
from ..deploy.segmenter import Segmenter
from .quantize import KINDS, Linear, check_some, groups_of, linears_of, quantize
from .quantize_ranges import ranges

Tell = Callable[[str], None]
Picture = tuple[np.ndarray, str]
Key = tuple[str, str]
"""A part and a group of its linears."""

SHARE = 0.33
"""Of what the certificate allows, a choice may use this much: other pictures will be worse."""


@dataclass(frozen=True)
class Cost:
    """What eight bits change: the least Dice between both masks, and the largest share of pixels that change sides."""

    dice: float
    flipped: float


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


def choose(costs: Mapping[Key, Cost], cost_of: Callable[[list[Key]], Cost], precision: str) -> list[Key]:
    """Return the groups to quantise: none that hurts by itself, and together no more than they may.

    Where all that are left cost too much together, those that cost most by themselves leave.
    """
    limit = LIMITS[precision]
    most_dice, most_flipped = SHARE * (1 - limit.dice), SHARE * limit.flipped

    def fine(cost: Cost) -> bool:
        return 1 - cost.dice <= most_dice and cost.flipped <= most_flipped

    kept = [key for key, cost in costs.items() if fine(cost)]
    kept.sort(key=lambda key: (costs[key].flipped, 1 - costs[key].dice))
    most = _most(len(kept), lambda count: fine(cost_of(kept[:count])))
    return [key for key in costs if key in kept[:most]]


def _most(count: int, fine: Callable[[int], bool]) -> int:
    """Return how many may be taken, 0 to `count`, by halving: what is fine with some is taken to be so with fewer."""
    low, high = 0, count
    while low < high:
        middle = (low + high + 1) // 2 if low or high < count else high
        low, high = (middle, high) if fine(middle) else (low, middle - 1)
    return low


class Yard:
    """A float bundle that has answered the calibration pictures, to hold changed parts against."""

    def __init__(self, folder: Path, manifest: Manifest, pictures: Sequence[Picture]) -> None:
        self.manifest, self.folder = manifest, folder
        self._undo = ExitStack()
        self._scratch = Path(self._undo.enter_context(tempfile.TemporaryDirectory()))
        self._model = self._undo.enter_context(Segmenter.open(folder, engine="onnxruntime"))
        self.running = [part for part in self._model.flow.order if manifest.parts[part]]
        self.rows = [self._answer(image, prompt) for image, prompt in pictures]
        self._masks = [self._mask(row["logits"]) for row in self.rows]

    def feeds(self, part: str) -> list[Arrays]:
        """Return what a part was given, once for each different thing: a picture, or a sentence."""
        names = self._model.flow.inputs[part]
        given = [{name: row[name] for name in names} for row in self.rows]
        return list({tuple(array.tobytes() for array in feed.values()): feed for feed in given}.values())

    def cost(self, changed: Mapping[str, onnx.ModelProto]) -> Cost:
        """Return what the masks lose when these parts are replaced."""
        with ExitStack() as undo:
            engines = {part: undo.enter_context(self._open(graph)) for part, graph in changed.items()}
            masks = [self._mask(self._again(row, engines)) for row in self.rows]
        pairs, limit = list(zip(masks, self._masks, strict=True)), LIMITS[self.manifest.precision]
        return Cost(min(limit.dice_of(*pair) for pair in pairs), max(float((a != b).mean()) for a, b in pairs))

    def _answer(self, image: np.ndarray, prompt: str) -> Arrays:
        inputs = self._model.inputs_of_parts(image, prompt)
        row = {name: array for part in self.running for name, array in inputs[part].items()}
        return {**row, **self._model.run_part("decoder", inputs["decoder"])}

    def _again(self, row: Arrays, engines: Mapping[str, Engine]) -> np.ndarray:
        """Return logits with changed parts; a part runs only where it, or something that it reads, was changed."""
        made, new, flow = dict(row), set(), self._model.flow
        for part in self.running:
            if part in engines or new.intersection(flow.inputs[part]):
                given = {name: made[name] for name in flow.inputs[part]}
                made.update(engines[part].run(given) if part in engines else self._model.run_part(part, given))
                new.update(flow.outputs[part])
        return made["logits"]

    def _mask(self, logits: np.ndarray) -> np.ndarray:
        side = self.manifest.image_size
        return to_mask(to_probability(logits[0, 0].astype(np.float32), side, side), self.manifest.threshold)

    def _open(self, graph: onnx.ModelProto) -> OnnxRuntime:
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
        parts = [part for part in ENCODERS if part in yard.running]
        self._graphs = {part: onnx.load(yard.folder / str(yard.manifest.parts[part])) for part in parts}
        found = {part: linears_of(graph) for part, graph in self._graphs.items()}
        check_some(found, yard.manifest.method)
        self.groups: dict[Key, list[Linear]] = {
            (part, group): linears for part in parts for group, linears in groups_of(found[part]).items()
        }
        self._ranges = {
            part: ranges(self._graphs[part], found[part], yard.feeds(part), self._kind) if found[part] else {}
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
    figures = {"dice": round(cost.dice, 6), "flipped": round(cost.flipped, 8)}
    return {"part": part, "group": group, "linears": count, **figures, "quantised": kept}


def _sentence(record: dict[str, Any], kind: str) -> str:
    how = kind if record["quantised"] else "left as it was"
    cost = f"least Dice {record['dice']:.4f}, {record['flipped']:.4%} flipped"
    return f"{record['part']} {record['group']}: {record['linears']} linears, {cost}: {how}"
