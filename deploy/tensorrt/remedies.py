"""Faults of known versions that a build works around by itself, and says so."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from .plans import Here

_THOR = (110, 101)


@dataclass(frozen=True)
class Remedy:
    """What is wrong, when it applies, and what is done about it before anything is built."""

    fault: str
    done: str
    applies: Callable[[Here, tuple[int, ...]], bool]
    environment: dict[str, str]


REMEDIES = (
    Remedy(
        "TensorRT 10.13.3 on Thor miscompiles q, k, v of attention at batch 1 (NVIDIA/TensorRT-Edge-LLM 151)",
        "its horizontal fusion is turned off",
        lambda here, version: here.capability in _THOR and version[:3] == (10, 13, 3),
        {"__LUNOWUD": "-peep:fc_h_fusion=off"},
    ),
    Remedy(
        "TensorRT 11.1 and 11.2 leak a plugin's CUDA module on every change of a dynamic shape (NVIDIA/TensorRT 4849)",
        "every engine has static shapes",
        lambda here, version: (11, 1) <= version < (11, 3),
        {},
    ),
)


def apply(here: Here, version: tuple[int, ...]) -> list[str]:
    """Set what this device and version need, and return a sentence for each; what the user has set stays."""
    found = [remedy for remedy in REMEDIES if remedy.applies(here, version)]
    for remedy in found:
        for name, value in remedy.environment.items():
            given = os.environ.setdefault(name, value)
            if value not in given:
                os.environ[name] = f"{given} {value}"
    return [f"{remedy.fault}: {remedy.done}" for remedy in found]
