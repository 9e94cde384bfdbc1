"""Known faults of versions and machines, as data: what is wrong, when it applies, and what to do.

Sources are the vendors' issue trackers, named where there is one.
"""

from collections.abc import Callable
from dataclasses import dataclass

from .abilities import KERNEL_ARCHITECTURES, capability_of
from .facts import Facts, version_numbers

# Compute capabilities that onnxruntime-gpu's wheels hold machine code for (1.31, wheel inspected; no PTX).
_WHEEL_ARCHS = {"7.5", "8.0", "8.6", "8.9", "9.0", "12.0"}
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True)
class Fault:
    """One known fault: what it does, the command or step that mends it, and the machines it is on."""

    what: str
    fix: str
    applies: Callable[[Facts], bool]


def faults_of(facts: Facts) -> list[dict[str, str]]:
    """Return `{what, fix}` of every known fault that applies to this machine."""
    return [{"what": fault.what, "fix": fault.fix} for fault in FAULTS if fault.applies(facts)]


def _tensorrt(low: tuple[int, ...], high: tuple[int, ...]) -> Callable[[Facts], bool]:
    """Return whether TensorRT is there and low <= its version < high."""
    return lambda facts: bool(facts.tensorrt) and low <= version_numbers(facts.tensorrt) < high


def _has_gpu(facts: Facts, *capabilities: str) -> bool:
    return any(gpu["compute_cap"] in capabilities for gpu in facts.gpus)


def _old_runtime(facts: Facts) -> bool:
    return any((1,) <= version_numbers(facts.packages.get(name)) < (1, 23) for name in _RUNTIMES)


def _no_runtime(facts: Facts) -> bool:
    return not any(name in facts.packages for name in _RUNTIMES)


def _unserved_gpu(facts: Facts) -> bool:
    return facts.jetpack is None and bool(facts.gpus) and "onnxruntime" in facts.packages and not _gpu_runtime(facts)


def _gpu_runtime(facts: Facts) -> bool:
    return "onnxruntime-gpu" in facts.packages


def _foreign_wheel(facts: Facts) -> bool:
    named = [gpu["compute_cap"] for gpu in facts.gpus if gpu["compute_cap"]]
    return _gpu_runtime(facts) and bool(named) and not any(cap in _WHEEL_ARCHS for cap in named)


FAULTS = (
    Fault(
        "onnxruntime and onnxruntime-gpu are both installed; they overwrite each other's files",
        'pip uninstall -y onnxruntime onnxruntime-gpu && pip install "vlseg[gpu]" (or "vlseg[cpu]")',
        lambda facts: all(name in facts.packages for name in _RUNTIMES),
    ),
    Fault(
        "ONNX Runtime is not installed; no bundle can run",
        'pip install "vlseg[cpu]" (or "vlseg[gpu]" with an NVIDIA GPU)',
        _no_runtime,
    ),
    Fault(
        "ONNX Runtime is older than 1.23, the oldest that bundles are tested with",
        'pip install --upgrade "onnxruntime>=1.23"',
        _old_runtime,
    ),
    Fault(
        "an NVIDIA GPU is here, but the installed ONNX Runtime uses the CPU alone",
        'pip uninstall -y onnxruntime && pip install "vlseg[gpu]"',
        _unserved_gpu,
    ),
    Fault(
        "onnxruntime-gpu from the package index has no code for this GPU (sm_75, 80, 86, 89, 90, 120 only, no PTX)",
        "on a Jetson install JetPack's own onnxruntime-gpu wheel; elsewhere use TensorRT",
        _foreign_wheel,
    ),
    Fault(
        "TensorRT is older than 10.3, the oldest supported",
        "update TensorRT (JetPack 6 has 10.3)",
        _tensorrt((0,), (10, 3)),
    ),
    Fault(
        "TensorRT 11.0 to 11.4.0 has no JetPack support",
        "stay on the TensorRT 10 of your JetPack, or take 11.4.1 (SBSA) on JetPack 7.2.2",
        lambda facts: facts.jetpack is not None and _tensorrt((11,), (11, 4, 1))(facts),
    ),
    Fault(
        "Thor with TensorRT 10.13.3.9: horizontal fusion (fc_h_fusion) miscompiles q, k, v at batch 1 "
        "(NVIDIA/TensorRT-Edge-LLM 151)",
        '`vlseg build` turns it off by itself; for trtexec export __LUNOWUD="-peep:fc_h_fusion=off", or update to '
        "JetPack 7.2",
        lambda facts: _has_gpu(facts, "11.0", "10.1") and _tensorrt((10, 13, 3), (10, 13, 4))(facts),
    ),
    Fault(
        "TensorRT 10.7 computes attention wrongly on L4 (NVIDIA/TensorRT 4333)",
        "update TensorRT to 10.9 or later",
        lambda facts: any(gpu["name"] == "NVIDIA L4" for gpu in facts.gpus) and _tensorrt((10, 7), (10, 8))(facts),
    ),
    Fault(
        "TensorRT 10.13.3 computes GridSample of opset 20 wrongly (NVIDIA/TensorRT 4646)",
        "update TensorRT to 10.16, or keep GridSample out of the model (vlseg's own bundles have none)",
        _tensorrt((10, 13, 3), (10, 13, 4)),
    ),
    Fault(
        "TensorRT before 10.9 has no ahead-of-time plugins; the operators run as ONNX functions",
        "nothing is needed; for plugins update to TensorRT 10.16 (JetPack 7.2)",
        _tensorrt((10, 3), (10, 9)),
    ),
    Fault(
        "TensorRT 10.9 to 10.15 does not pad the two hidden parameters of Triton's PTX",
        "nothing is needed: a bundle's PTX comes without them; PTX of your own needs TensorRT 10.16",
        _tensorrt((10, 9), (10, 16)),
    ),
    Fault(
        "TensorRT 11.1 and 11.2 leak a CUDA module in ahead-of-time plugins on every change of a dynamic shape "
        "(NVIDIA/TensorRT 4849)",
        "nothing is needed: `vlseg build` makes every shape static; engines of your own need the same",
        _tensorrt((11, 1), (11, 3)),
    ),
    Fault(
        "ONNX Runtime's TensorRT provider needs TensorRT 10 (libnvinfer.so.10) and cannot use TensorRT 11",
        "use the TensorRT engine itself, or install TensorRT 10 beside it",
        lambda facts: _gpu_runtime(facts) and _tensorrt((11,), (12,))(facts),
    ),
    Fault(
        "TensorRT is here, but cuda-bindings, through which its memory comes, is not",
        'pip install "vlseg[tensorrt]" (where the driver is of CUDA 12, "cuda-bindings<13")',
        lambda facts: bool(facts.tensorrt) and bool(facts.gpus) and "cuda-bindings" not in facts.packages,
    ),
    Fault(
        "cuda-bindings is of a newer CUDA than the driver, and finds no GPU",
        'pip install "cuda-bindings<13", or update the driver',
        lambda facts: (0,) < version_numbers(facts.cuda)[:1] < version_numbers(facts.packages.get("cuda-bindings"))[:1],
    ),
    Fault(
        "only TensorRT's lean runtime is here, which loads engines and builds none",
        "install TensorRT itself for `vlseg build`",
        lambda facts: facts.tensorrt is None and facts.tensorrt_lean is not None,
    ),
    Fault(
        "the operators' kernels are not made for this GPU; TensorRT runs them as ONNX functions",
        f"nothing is needed; kernels are there for sm_{', '.join(map(str, KERNEL_ARCHITECTURES))}",
        lambda facts: bool(facts.tensorrt) and capability_of(facts) not in (None, *KERNEL_ARCHITECTURES),
    ),
    Fault(
        "less than 2 GB of disk is free; a bundle and its engines do not fit beside each other",
        "free some disk, or work in a folder on another one",
        lambda facts: (facts.free.get("disk_mib") or 1 << 20) < 2048,
    ),
    Fault(
        "this Jetson has 8 GB or less; the TensorRT builder takes about 1.7 GB beside the model",
        "sudo systemctl isolate multi-user.target, add 8 GB of swap, build the parts one by one",
        lambda facts: facts.jetpack is not None and facts.memory_mib is not None and facts.memory_mib < 9000,
    ),
)
