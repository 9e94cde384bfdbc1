"""Times in the form of `trtexec --exportTimes`, for tools that read it: an object for each run, milliseconds."""

import json
from collections.abc import Sequence

from ..engines.protocol import Splits
from .plan import Subject

ORDER = ("Enq", "H2d", "Compute", "D2h")


def split_times(subject: Subject, inputs: dict[str, dict], repeats: int) -> list[dict[str, float]]:
    """Return what the engine tells of each of `repeats` runs through all parts, the first run left out."""
    return [_one(subject, inputs) for _ in range(repeats + 1)][1:]


def tells(subject: Subject, inputs: dict[str, dict]) -> bool:
    """Does the subject's engine tell where the time of a run goes?"""
    return all(isinstance(subject.segmenter.engine_of(part), Splits) for part in inputs)


def unsplit(times_ms: Sequence[float]) -> list[dict[str, float]]:
    """Return the same for an engine that does not tell, such as one on a CPU: all of it is `compute`."""
    return [{"compute": ms} for ms in times_ms]


def exported(splits: Sequence[dict[str, float]]) -> str:
    """Return the JSON text; runs follow each other without a gap, since only their lengths were measured."""
    rows, now = [], 0.0
    for told in splits:
        one = {"h2d": 0.0, "enqueue": 0.0, "compute": 0.0, "d2h": 0.0} | told
        at = {"Enq": now, "H2d": now, "Compute": now + one["h2d"], "D2h": now + one["h2d"] + one["compute"]}
        length = {"Enq": one["enqueue"], "H2d": one["h2d"], "Compute": one["compute"], "D2h": one["d2h"]}
        row = {}
        for name in ORDER:
            row |= {f"start{name}Ms": at[name], f"end{name}Ms": at[name] + length[name]}
        total = one["h2d"] + one["compute"] + one["d2h"]
        rows.append({**row, "h2dMs": one["h2d"], "computeMs": one["compute"], "d2hMs": one["d2h"], "latencyMs": total})
        now += total
    return json.dumps(rows, indent=1) + "\n"


def _one(subject: Subject, inputs: dict[str, dict]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part, given in inputs.items():
        engine = subject.segmenter.engine_of(part)
        assert isinstance(engine, Splits)
        for name, ms in engine.run_split(given)[1].items():
            total[name] = total.get(name, 0.0) + ms
    return total
