"""How far the numbers in front of each linear reach: measured on images that are looked at once and not kept."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx

from ..deploy.engine import Arrays
from .quantize import Kind, Linear, Range, sources_of

SAMPLES = 4096
"""Values of each tensor that one image leaves behind, for the choice of the cut."""
CANDIDATES = np.geomspace(0.05, 1, 60)
"""Cuts that are tried, as shares of the largest magnitude."""


class Seen:
    """What is remembered of one tensor: its largest magnitude, a sample of magnitudes, the sum of each channel."""

    def __init__(self) -> None:
        self.largest, self.rows = 0.0, 0
        self.sums: np.ndarray = np.zeros(())
        self.samples: list[np.ndarray] = []

    def add(self, values: np.ndarray, draw: np.random.Generator) -> None:
        """Look at one more tensor, (..., channels)."""
        rows = values.reshape(-1, values.shape[-1]).astype(np.float32)
        flat = np.abs(rows).reshape(-1)
        self.largest = max(self.largest, float(flat.max()))
        self.samples.append(draw.choice(flat, min(SAMPLES, len(flat)), replace=False))
        self.sums = self.sums + rows.sum(axis=0, dtype=np.float64)
        self.rows += len(rows)

    def range(self, kind: Kind) -> Range:
        """Return where to cut, and the mean of each channel."""
        return Range(_cut(np.concatenate(self.samples), self.largest, kind), (self.sums / self.rows).astype(np.float32))


def ranges(model: onnx.ModelProto, linears: Iterable[Linear], feeds: Iterable[Arrays], kind: Kind) -> dict[str, Range]:
    """Return for each linear's name how far what it reads reaches, over all feeds of the graph.

    For int8 the cut is the one of least squared error: one large value among thousands would take the steps from all
    the others. An eight-bit float keeps its relative precision, so it is never cut.
    """
    linears = list(linears)
    names = list(sources_of(linears))
    seen = {name: Seen() for name in names}
    session, draw = _session_with(model, names), np.random.default_rng(0)
    for feed in feeds:
        for name, values in zip(names, session.run(names, feed), strict=True):
            seen[name].add(values, draw)
    found = {name: one.range(kind) for name, one in seen.items()}
    return {linear.name: found[linear.source] for linear in linears}


def _session_with(model: onnx.ModelProto, names: list[str]) -> Any:
    import onnxruntime

    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    ends = {value.name for value in probed.graph.output}
    # of unknown type: ONNX Runtime infers it
    probed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in ends)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(probed.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _cut(values: np.ndarray, largest: float, kind: Kind) -> float:
    """Return the cut of least squared error on a sample of magnitudes whose largest is known."""
    if largest == 0:
        return 1.0
    if kind.largest != 127:
        return largest
    errors = []
    for cut in largest * CANDIDATES:
        step = np.float32(cut / kind.largest)
        errors.append(float(np.square(kind(values / step) * step - values).mean()))
    return float(largest * CANDIDATES[int(np.argmin(errors))])
