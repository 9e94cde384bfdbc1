"""What this machine can do, and what is known to be wrong with it."""

from pathlib import Path
from typing import Any

from .engine import available_engines
from .facts import ROOT, Facts, read_facts
from .faults import faults_of

_RTX = "tensorrt_rtx_cu13_bindings"


def doctor(root: Path = ROOT) -> dict[str, Any]:
    """Return what this machine can do as plain JSON values.

    Keys: python, platform, cpu, cores, memory_mib, gpus, onnxruntime, tensorrt, tensorrt_rtx, jetpack, engines,
    packages, faults.
    Versions are None where a thing is absent; `jetpack` is `{l4t, jetpack, model}` or None; `engines` are the names
    that `--engine` takes here, the one that `auto` takes first; `faults` are `{what, fix}`. `root` stands for `/`
    in tests.
    """
    facts = read_facts(root)
    return {
        "python": facts.python,
        "platform": facts.platform,
        "cpu": facts.cpu,
        "cores": facts.cores,
        "memory_mib": facts.memory_mib,
        "gpus": facts.gpus,
        "onnxruntime": _onnxruntime(facts),
        "tensorrt": facts.tensorrt,
        "tensorrt_rtx": facts.packages.get(_RTX),
        "jetpack": facts.jetpack,
        "engines": available_engines(),
        "packages": facts.packages,
        "faults": faults_of(facts),
    }


def _onnxruntime(facts: Facts) -> str | None:
    return facts.packages.get("onnxruntime-gpu") or facts.packages.get("onnxruntime")
