"""The state of the machine that a speed depends on: clocks, governor, power mode, memory of the GPU."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ..facts import ROOT

_CPUS = "sys/devices/system/cpu"


def state(root: Path = ROOT) -> dict[str, Any]:
    """Return what is known of clocks and power now; None where the machine does not tell.

    Keys: `cpu_mhz` (mean of the cores), `governor`, `power_mode` (a Jetson's), `gpu_mhz`, `gpu_max_mhz`,
    `gpu_power_limit_w`, `gpu_celsius`, `load` (processes that wanted a core in the last minute).
    """
    return {
        "cpu_mhz": cpu_mhz(root),
        "governor": _line(root / _CPUS / "cpu0/cpufreq/scaling_governor"),
        "power_mode": power_mode(),
        **gpu_clocks(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def cpu_mhz(root: Path = ROOT) -> float | None:
    """Return the mean clock of the cores in MHz, by the governor's files or by /proc/cpuinfo."""
    found = [_line(path) for path in root.glob(f"{_CPUS}/cpu[0-9]*/cpufreq/scaling_cur_freq")]
    clocks = [int(text) / 1000 for text in found if text and text.isdigit()]
    if not clocks:
        cpuinfo = _text(root / "proc/cpuinfo")
        clocks = [float(text) for text in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", cpuinfo, re.MULTILINE)]
    return sum(clocks) / len(clocks) if clocks else None


def throttles(root: Path = ROOT) -> int | None:
    """Return how often the cores have been slowed for heat since the start; None where that is not counted."""
    found = [_line(path) for path in root.glob(f"{_CPUS}/cpu[0-9]*/thermal_throttle/core_throttle_count")]
    counts = [int(text) for text in found if text and text.isdigit()]
    return sum(counts) if counts else None


def power_mode() -> str | None:
    """Return the name of a Jetson's power mode by `nvpmodel -q`, or None on other machines."""
    found = re.search(r"NV Power Mode:\s*(\S+)", _run("nvpmodel", "-q"))
    return found[1] if found else None


def gpu_clocks() -> dict[str, float | None]:
    """Return clocks, power limit and temperature of the first NVIDIA GPU; None where nobody tells."""
    names = ("gpu_mhz", "gpu_max_mhz", "gpu_power_limit_w", "gpu_celsius")
    asked = "clocks.sm,clocks.max.sm,power.limit,temperature.gpu"
    lines = _run("nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader,nounits").splitlines()
    cells = [cell.strip() for cell in lines[0].split(",")] if lines else []
    values = [number(cell) for cell in cells] if len(cells) == len(names) else [None] * len(names)
    return dict(zip(names, values, strict=True))


def own_gpu_mib() -> float | None:
    """Return the GPU memory that this process holds, MiB, by nvidia-smi; None where it does not tell."""
    lines = _run("nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits").splitlines()
    held = [cells[1] for line in lines if len(cells := line.split(",")) == 2 and cells[0].strip() == str(os.getpid())]
    values = [value for cell in held if (value := number(cell)) is not None]
    return sum(values) if values else None


def number(text: str) -> float | None:
    """Return the number of a cell, or None for such as [N/A]."""
    try:
        return float(text)
    except ValueError:
        return None


def _run(program: str, *words: str) -> str:
    if not shutil.which(program):
        return ""
    try:
        done = subprocess.run([program, *words], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _line(path: Path) -> str | None:
    return _text(path).strip() or None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
