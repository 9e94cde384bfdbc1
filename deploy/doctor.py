"""What this machine can do, and what is known to be wrong with it."""

from pathlib import Path
from typing import Any

from .abilities import plugin_route, precisions
from .engine import available_engines
from .engines import ort
from .facts import ROOT, Facts, read_facts
from .faults import faults_of

_RTX = "tensorrt_rtx_cu13_bindings"


def doctor(root: Path = ROOT) -> dict[str, Any]:
    """Return what this machine can do as plain JSON values.

    Keys: python, platform, cpu, cores, memory_mib, free, gpus, cuda, onnxruntime, providers, tensorrt, tensorrt_lean,
    tensorrt_rtx, jetpack, precisions, plugins, engines, packages, faults.
    Versions are None where a thing is absent; `free` is MiB; `cuda` is the newest that the driver runs; `providers` are
    ONNX Runtime's; `jetpack` is `{l4t, jetpack, model}` or None; `plugins` is `{route, why}`; `engines` are the names
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
        "free": facts.free,
        "gpus": facts.gpus,
        "cuda": facts.cuda,
        "onnxruntime": _onnxruntime(facts),
        "providers": _providers(),
        "tensorrt": facts.tensorrt,
        "tensorrt_lean": facts.tensorrt_lean,
        "tensorrt_rtx": facts.packages.get(_RTX),
        "jetpack": facts.jetpack,
        "precisions": precisions(facts),
        "plugins": plugin_route(facts),
        "engines": available_engines(),
        "packages": facts.packages,
        "faults": faults_of(facts),
    }


def _onnxruntime(facts: Facts) -> str | None:
    return facts.packages.get("onnxruntime-gpu") or facts.packages.get("onnxruntime")


def _providers() -> list[str]:
    """Return ONNX Runtime's execution providers, without their common ending; none where it does not load."""
    if ort.missing():
        return []
    try:
        return [name.removesuffix("ExecutionProvider") for name in ort.onnxruntime().get_available_providers()]
    except (ImportError, AttributeError):  # two of its packages overwrote each other; `faults` says so
        return []
