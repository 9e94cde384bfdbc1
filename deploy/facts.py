"""What this machine is: read from files, installed packages and `nvidia-smi`; nothing heavy is imported."""

import csv
import ctypes
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path("/")
PACKAGES = (
    "numpy",
    "pillow",
    "tokenizers",
    "typer",
    "scipy",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt-cu12",
    "tensorrt-cu13",
    "tensorrt-lean",
    "tensorrt-lean-cu12",
    "tensorrt-lean-cu13",
    "cuda-bindings",
    "tensorrt_rtx_cu13_bindings",
    "onnxruntime-ep-nv-tensorrt-rtx-cu13",
    "torch",
)
# L4T release -> JetPack; 36 is all of JetPack 6.
_JETPACKS = {"35": "5", "36": "6", "38.2": "7.0", "38.4": "7.1", "39.2": "7.2"}
# Jetson models whose GPU nvidia-smi does not describe -> compute capability.
_JETSON_GPUS = {"Orin": "8.7", "Thor": "11.0", "Xavier": "7.2"}
_LEAN = ("tensorrt-lean", "tensorrt-lean-cu13", "tensorrt-lean-cu12")
_QUERY = ("name", "compute_cap", "memory.total", "driver_version")


@dataclass(frozen=True)
class Facts:
    """One machine, as far as this package cares.

    Attributes:
        python: version.
        platform: system, release and machine.
        cpu: model name.
        cores: cores this process may use.
        memory_mib: of the machine; None where unknown.
        gpus: name, compute_cap, memory_mib, driver of each; values nobody tells are None.
        jetpack: l4t, jetpack, model; None on other machines.
        packages: version of each installed package of `PACKAGES`.
        tensorrt: version of the package or of the system's library, or None.
        tensorrt_lean: the same of the lean runtime, which loads engines and builds none.
        cuda: newest CUDA that the driver runs, such as 12.6, or None.
        free: MiB that are free: `memory_mib`, `gpu_memory_mib`, `disk_mib` (where one stands); None where unknown.
    """

    python: str
    platform: str
    cpu: str
    cores: int
    memory_mib: int | None
    gpus: list[dict[str, str | int | None]]
    jetpack: dict[str, str | None] | None
    packages: dict[str, str]
    tensorrt: str | None
    tensorrt_lean: str | None = None
    cuda: str | None = None
    free: dict[str, int | None] = field(default_factory=dict)


def read_facts(root: Path = ROOT) -> Facts:
    """Return the facts of this machine; `root` stands for `/` in tests."""
    packages, jetson = installed(), jetpack(root)
    return Facts(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=cpu_name(root),
        cores=cores(),
        memory_mib=_memory_mib(root),
        gpus=gpus(root),
        jetpack=jetson,
        packages=packages,
        tensorrt=_tensorrt(packages, root),
        tensorrt_lean=_library(packages, root, _LEAN, "libnvinfer_lean"),
        cuda=_cuda() if root == ROOT else None,
        free=free(root),
    )


def installed() -> dict[str, str]:
    """Return the version of each package of `PACKAGES` that is installed, by metadata alone."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name(root: Path = ROOT) -> str:
    """Return the processor's model name, or its architecture where the system does not tell."""
    found = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", _text(root / "proc/cpuinfo"), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def gpus(root: Path = ROOT) -> list[dict[str, str | int | None]]:
    """Return NVIDIA GPUs by `nvidia-smi` (at most 10 s), else the one that a Jetson's model name implies."""
    found = _parse_smi(_smi()) if root == ROOT and shutil.which("nvidia-smi") else []
    model = (jetpack(root) or {}).get("model") or ""
    if not found or found[0]["compute_cap"] is None:
        named = [cap for name, cap in _JETSON_GPUS.items() if name in model]
        found = [{"name": model, "compute_cap": cap, "memory_mib": None, "driver": None} for cap in named] or found
    return found


def jetpack(root: Path = ROOT) -> dict[str, str | None] | None:
    """Return l4t, jetpack and model of a Jetson by `/etc/nv_tegra_release`, or None on other machines."""
    found = re.search(r"# R(\d+) \(release\), REVISION: ([\d.]+)", _text(root / "etc/nv_tegra_release"))
    if not found:
        return None
    l4t = f"{found[1]}.{found[2]}"
    name = next((pack for key, pack in _JETPACKS.items() if f"{l4t}.".startswith(f"{key}.")), None)
    model = _text(root / "proc/device-tree/model").strip("\0\n ")
    return {"l4t": l4t, "jetpack": name, "model": model or None}


def peak_rss_mib() -> float | None:
    """Return the largest resident memory this process has had, MiB; None on Windows, which does not tell."""
    if sys.platform == "win32":
        return None
    # Linux's ru_maxrss keeps, beyond exec, what the process that started this one held
    if found := re.search(r"^VmHWM:\s+(\d+) kB", _text(Path("/proc/self/status")), re.MULTILINE):
        return int(found[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def rss_mib(root: Path = ROOT) -> float | None:
    """Return the resident memory of this process now, MiB; None where the system does not tell."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", _text(root / "proc/self/status"), re.MULTILINE)
    return int(found[1]) / 1024 if found else None


def _memory_mib(root: Path) -> int | None:
    found = re.search(r"^MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    return int(found[1]) // 1024 if found else None


def free(root: Path = ROOT) -> dict[str, int | None]:
    """Return what is free, MiB: memory, the first GPU's memory, and the disk under the working folder."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    told = _smi("memory.free").splitlines() if root == ROOT and shutil.which("nvidia-smi") else []
    gpu = told[0].strip() if told else ""
    return {
        "memory_mib": int(found[1]) // 1024 if found else None,
        "gpu_memory_mib": int(gpu) if gpu.isdigit() else None,
        "disk_mib": shutil.disk_usage(".").free // (1 << 20),
    }


def version_numbers(text: str | None) -> tuple[int, ...]:
    """Return the leading numbers of a version; () where there is none."""
    numbers = []
    for part in (text or "").split("+")[0].split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def _cuda() -> str | None:
    """Return the newest CUDA that the driver runs, told by the driver itself, which needs no GPU for it."""
    try:
        driver, version = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
    except OSError:
        return None
    if driver.cuDriverGetVersion(ctypes.byref(version)) or not version.value:
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def _tensorrt(packages: dict[str, str], root: Path) -> str | None:
    return _library(packages, root, ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"), "libnvinfer")


def _library(packages: dict[str, str], root: Path, names: tuple[str, ...], library: str) -> str | None:
    """Return the version of the first package that is installed, else of the system's newest library."""
    for name in names:
        if name in packages:
            return packages[name]
    found = [re.search(r"\.so\.(\d+\.\d+[\d.]*)$", path.name) for path in root.glob(f"usr/lib/*/{library}.so.*.*")]
    versions = [match[1] for match in found if match]
    return max(versions, key=version_numbers, default=None)


def _smi(*query: str) -> str:
    command = ["nvidia-smi", f"--query-gpu={','.join(query or _QUERY)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _parse_smi(text: str) -> list[dict[str, str | int | None]]:
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines())]
    return [
        {
            "name": name,
            "compute_cap": _told(cap),
            "memory_mib": int(mib) if mib.isdigit() else None,
            "driver": _told(driver),
        }
        for name, cap, mib, driver in (row for row in rows if len(row) == len(_QUERY))
    ]


def _told(cell: str) -> str | None:
    return cell if cell and not cell.startswith("[") else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
