"""What ONNX Runtime answered when the bundle was made: two drawn pictures through every part, kept in `answers.npz`.

An engine is held to them on the device, part by part, so that a wrong one can be named; nobody's picture is in it.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ..adapters import DAMAGED, array_of, load_archive
from ..drawn import draw_cases, with_prompts
from ..engine import open_engines
from ..errors import BundleError, EngineError
from ..fixed import read_fixed
from ..flow import Flow
from ..manifest import Manifest
from ..parity import LIMITS
from ..pixels import to_input
from ..words import Tokenizer
from .network import LENGTH

FILE = "answers.npz"
COUNT = 2
Arrays = dict[str, np.ndarray]


def write_answers(folder: Path, manifest: Manifest) -> None:
    """Run two drawn cases, one object small and one large, through ONNX Runtime, and keep all that the parts make."""
    made = _given(folder, manifest)
    with ExitStack() as undo:
        engines = open_engines(folder, manifest, "onnxruntime")
        for engine in engines.values():
            undo.callback(engine.close)
        for part in Flow(manifest.flow).order:
            if part in engines:
                made |= engines[part].run({name: made[name] for name in manifest.flow[part]["inputs"]})
    with (folder / FILE).open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **made)


def read_answers(folder: Path, manifest: Manifest) -> Arrays:
    """Return every input and output of every part by name, two rows each.

    Raises:
        EngineError: the bundle has none, from before they were kept.
        BundleError: the file is damaged.
    """
    if FILE not in manifest.files:
        raise EngineError(f"{manifest.name} has no {FILE} to prove engines by: export it again with this vlseg")
    try:
        with open(folder / FILE, "rb") as file, load_archive(file) as archive:
            return {name: array_of(archive, name) for name in archive.files}
    except DAMAGED as error:
        raise BundleError(f"{folder / FILE} is damaged ({error}): copy the bundle again") from error


def compare(engine: Any, manifest: Manifest, part: str, answers: Arrays) -> dict[str, Any]:
    """Return how far an engine's outputs are from ONNX Runtime's on the same inputs, `passed` among the numbers.

    `deviation` is the largest root mean square difference of an output over the standard deviation of the answer;
    `flipped` is the share of pixels on the other side of the threshold, of the decoder alone.
    """
    ends, limit = manifest.flow[part], LIMITS[manifest.precision]
    found = engine.run({name: answers[name] for name in ends["inputs"]})
    pairs = {name: (found[name].astype(np.float64), answers[name].astype(np.float64)) for name in ends["outputs"]}
    deviation = max(_deviation(*pair) for pair in pairs.values())
    flipped = _flipped(*pairs["logits"], manifest.threshold) if "logits" in pairs else 0.0
    passed = deviation <= limit.deviation and flipped <= limit.flipped
    return {"deviation": deviation, "flipped": flipped, "limit": limit.deviation, "passed": bool(passed)}


def refusal(part: str, batch: int, plugins: bool, parity: dict[str, Any]) -> str:
    """Return why an engine is not kept."""
    kind = "with our kernels" if plugins else "without our kernels"
    return (
        f"the {part} engine for batch {batch} {kind} answers otherwise than ONNX Runtime (off by "
        f"{parity['deviation']:.2g} of the spread, at most {parity['limit']:g} is allowed; "
        f"{parity['flipped']:.2%} of pixels flipped)"
    )


def _given(folder: Path, manifest: Manifest) -> Arrays:
    cases = with_prompts(draw_cases(COUNT), manifest.fixed_prompts)
    pixels = [to_input(case.image, manifest.image_size, manifest.mean, manifest.std) for case in cases]
    made: Arrays = {"pixel_values": np.stack(pixels)}
    if manifest.tokenizer:
        tokenizer = Tokenizer.load(folder / manifest.tokenizer)
        ids, mask = tokenizer([case.prompt for case in cases], LENGTH)
        return made | {"input_ids": ids, "attention_mask": mask}
    rows = [manifest.fixed_prompts.index(case.prompt) for case in cases]
    return made | {name: array[rows] for name, array in read_fixed(folder, manifest).items()}


def _deviation(found: np.ndarray, answer: np.ndarray) -> float:
    if found.shape != answer.shape or not np.isfinite(found).all():
        return float("inf")
    spread = float(answer.std()) or 1.0
    return float(np.sqrt(np.mean((found - answer) ** 2))) / spread


def _flipped(found: np.ndarray, answer: np.ndarray, threshold: float) -> float:
    level = np.log(threshold / (1 - threshold)) if 0 < threshold < 1 else np.inf * (threshold - 0.5)
    return float(np.mean((found > level) != (answer > level)))
