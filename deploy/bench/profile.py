"""Where the time of one mask goes: decode, preprocess, encoders with what sits in them, decoder, postprocess.

Inside a part, the exporter wrote into each node's name which module it is of (`adapters/...`, `attention/...`), and the
profilers of ONNX Runtime and OpenVINO time the nodes; other engines tell their parts alone.
"""

from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ..engines import openvino, ort
from ..kinds import kind_of
from ..pixels import read_image
from .plan import Plan, Subject
from .tasks import asked

NODE_TIMES = {"onnxruntime": ort.node_times, "openvino": openvino.node_times}


def profile(
    subject: Subject, folder: Path | None, plan: Plan, picture: Path, threads: int | None
) -> list[dict[str, Any]]:
    """Return rows of `bundle, engine, part, inside, ms, share` (of file to mask): each part, then what is inside it.

    `inside` is empty for a part as a whole. Medians of `plan.repeats` masks of a new picture and a new prompt.
    """
    prompt = asked(subject.segmenter, plan)
    times = _parts(subject, prompt, picture, plan)
    whole = sum(times.values())
    rows = []
    for part, ms in times.items():
        rows.append(_row(subject, part, "", ms, whole))
        if folder is not None and subject.segmenter.engine in NODE_TIMES and part in subject.segmenter.flow.order:
            inside = _inside(subject, folder, part, prompt, picture, threads, plan.repeats)
            # the profiler slows nodes down: their shares are of the part as it was timed without
            scale = ms / sum(inside.values()) if inside else 0.0
            rows += [_row(subject, part, name, value * scale, whole) for name, value in inside.items()]
    return rows


def _parts(subject: Subject, prompt: str, picture: Path, plan: Plan) -> dict[str, float]:
    """Return the median milliseconds of decode and of every stage that `Timings` tells."""
    series: dict[str, list[float]] = defaultdict(list)
    for turn in range(plan.warmup + plan.repeats):
        subject.segmenter.forget()
        start = perf_counter()
        image = read_image(picture)
        decode = (perf_counter() - start) * 1e3
        stages = {"decode": decode, **asdict(subject.segmenter.run(image, prompt).timings)}
        for name, ms in stages.items():
            if turn >= plan.warmup:
                series[name].append(ms)
    return {name: float(np.median(times)) for name, times in series.items()}


def _inside(
    subject: Subject, folder: Path, part: str, prompt: str, picture: Path, threads: int | None, repeats: int
) -> dict[str, float]:
    """Return milliseconds by kind of node in one part, most first."""
    file = subject.segmenter.manifest.parts[part]
    if file is None:
        return {}
    inputs = subject.segmenter.inputs_of_parts(read_image(picture), prompt)[part]
    kinds: dict[str, float] = defaultdict(float)
    node_times = NODE_TIMES[subject.segmenter.engine]
    for node, ms in node_times(folder / file, threads, inputs, repeats):
        kinds[kind_of(node)] += ms
    return dict(sorted(kinds.items(), key=lambda item: -item[1]))


def _row(subject: Subject, part: str, inside: str, ms: float, whole: float) -> dict[str, Any]:
    whose = {"bundle": subject.bundle, "engine": subject.segmenter.engine}
    return {**whose, "part": part, "inside": inside, "ms": ms, "share": ms / whole}
