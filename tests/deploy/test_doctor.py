import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vlseg.deploy import abilities, facts, faults
from vlseg.deploy.doctor import doctor

HEALTHY = facts.Facts(
    python="3.11.7",
    platform="Linux 6 x86_64",
    cpu="x",
    cores=2,
    memory_mib=16000,
    gpus=[],
    jetpack=None,
    packages={"numpy": "2.2.0", "onnxruntime": "1.31.1"},
    tensorrt=None,
)
THOR = [{"name": "NVIDIA Thor", "compute_cap": "11.0", "memory_mib": None, "driver": "580.00"}]
H100 = [{"name": "NVIDIA H100", "compute_cap": "9.0", "memory_mib": 81559, "driver": "580.00"}]
L4 = [{"name": "NVIDIA L4", "compute_cap": "8.9", "memory_mib": 23034, "driver": "580.00"}]
GPU_RUNTIME = {"onnxruntime-gpu": "1.31.1"}
NANO = {"l4t": "36.4.3", "jetpack": "6", "model": "NVIDIA Jetson Orin Nano"}
KEYS = {
    "python", "platform", "gpus", "onnxruntime", "tensorrt", "tensorrt_rtx", "jetpack", "engines", "faults",
    "cuda", "providers", "tensorrt_lean", "free", "precisions", "plugins",
}  # fmt: skip


def test_this_machine():
    report = doctor()
    assert set(report) >= KEYS
    assert json.loads(json.dumps(report)) == report
    assert report["onnxruntime"] and "onnxruntime" in report["engines"]
    assert report["cores"] >= 1 and report["memory_mib"] > 100
    assert 0 < report["free"]["memory_mib"] <= report["memory_mib"] and report["free"]["disk_mib"] > 0
    assert "CPU" in report["providers"] and "fp32" in report["precisions"]
    assert all(set(fault) == {"what", "fix"} for fault in report["faults"])


def test_a_healthy_machine_has_no_faults():
    assert faults.faults_of(HEALTHY) == []
    packages = GPU_RUNTIME | {"cuda-bindings": "12.9.0"}
    with_gpu = replace(HEALTHY, gpus=H100, packages=packages, tensorrt="10.16.1.11", cuda="13.0")
    assert faults.faults_of(with_gpu) == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"packages": {"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"}}, "both installed"),
        ({"packages": {}}, "no bundle can run"),
        ({"packages": {"onnxruntime": "1.22.1"}}, "older than 1.23"),
        ({"gpus": H100}, "uses the CPU alone"),
        ({"gpus": THOR, "packages": GPU_RUNTIME}, "no code for this GPU"),
        ({"tensorrt": "8.6.1"}, "older than 10.3"),
        ({"tensorrt": "11.1.0", "jetpack": NANO}, "no JetPack support"),
        ({"tensorrt": "10.13.3.9", "gpus": THOR}, "fc_h_fusion"),
        ({"tensorrt": "10.7.0.23", "gpus": L4}, "attention wrongly on L4"),
        ({"tensorrt": "10.13.3.9"}, "GridSample"),
        ({"tensorrt": "10.3.0"}, "no ahead-of-time plugins"),
        ({"tensorrt": "10.9.0.34"}, "hidden parameters"),
        ({"tensorrt": "11.1.0.106"}, "leak a CUDA module"),
        ({"tensorrt": "11.2.1"}, "leak a CUDA module"),
        ({"tensorrt": "11.4.1", "packages": GPU_RUNTIME}, "cannot use TensorRT 11"),
        ({"tensorrt": "10.16.1", "gpus": H100}, "cuda-bindings, through which"),
        (
            {"cuda": "12.6", "packages": {"onnxruntime": "1.31.1", "cuda-bindings": "13.5.0"}},
            "newer CUDA than the driver",
        ),
        ({"tensorrt_lean": "11.4.0"}, "lean runtime"),
        ({"tensorrt": "10.16.1", "gpus": [{**H100[0], "compute_cap": "7.5"}]}, "not made for this GPU"),
        ({"free": {"disk_mib": 900}}, "less than 2 GB of disk"),
        ({"jetpack": NANO, "memory_mib": 7620}, "8 GB or less"),
    ],
)
def test_each_fault_is_seen(changes, word):
    found = [fault["what"] for fault in faults.faults_of(replace(HEALTHY, **changes))]
    assert any(word in what for what in found), found


def test_every_fault_of_the_table_is_tested():
    (mark,) = test_each_fault_is_seen.pytestmark
    words = [word for _, word in mark.args[1]]
    assert all(any(word in fault.what for word in words) for fault in faults.FAULTS)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"tensorrt": "10.16.1", "gpus": THOR}, "fc_h_fusion"),
        ({"tensorrt": "10.13.3.9", "gpus": H100}, "fc_h_fusion"),
        ({"tensorrt": "11.3.0"}, "leak"),
        ({"tensorrt": "10.16.0"}, "hidden"),
        ({"tensorrt": "11.4.1", "jetpack": NANO}, "JetPack support"),
        ({"memory_mib": 4000}, "8 GB"),
        ({"cuda": "13.0", "packages": {"onnxruntime": "1.31.1", "cuda-bindings": "13.5.0"}}, "newer CUDA"),
        ({"packages": {"onnxruntime": "1.31.1", "cuda-bindings": "13.5.0"}}, "newer CUDA"),
        ({"tensorrt": "10.16.1", "tensorrt_lean": "10.16.1"}, "lean"),
        ({"free": {"disk_mib": None}}, "disk"),
        ({"packages": {"onnxruntime": "1.23.0"}}, "older"),
        ({"packages": GPU_RUNTIME, "gpus": [{**L4[0], "compute_cap": None}]}, "no code"),
    ],
)
def test_faults_do_not_spread(changes, word):
    assert not [one for one in faults.faults_of(replace(HEALTHY, **changes)) if word in one["what"]]


@pytest.mark.parametrize(
    ("text", "version"), [("10.13.3.9", (10, 13, 3, 9)), ("1.31.1+cu13", (1, 31, 1)), ("2.0rc1", (2,)), (None, ())]
)
def test_versions(text, version):
    assert facts.version_numbers(text) == version


ORIN = [{"name": "Orin", "compute_cap": "8.7", "memory_mib": None, "driver": None}]
TURING = [{**H100[0], "compute_cap": "7.5"}]


@pytest.mark.parametrize(
    ("gpus", "tensorrt", "precisions", "route"),
    [
        ([], None, ["fp32", "int8"], "none"),
        ([], "10.16.1", ["fp32", "int8"], "none"),
        (ORIN, None, ["fp32", "fp16", "int8"], "none"),
        (ORIN, "10.3.0", ["fp32", "fp16", "int8"], "function"),
        (ORIN, "10.16.1", ["fp32", "fp16", "int8"], "plugin"),
        (THOR, "10.13.3.9", ["fp32", "fp16", "int8", "fp8"], "plugin"),
        (L4, "11.4.1", ["fp32", "fp16", "int8", "fp8"], "plugin"),
        (TURING, "11.4.1", ["fp32", "fp16", "int8"], "function"),
        ([{**H100[0], "compute_cap": "6.1"}], None, ["fp32"], "none"),
    ],
)
def test_precisions_and_plugin_route(gpus, tensorrt, precisions, route):
    machine = replace(HEALTHY, gpus=gpus, tensorrt=tensorrt)
    assert abilities.precisions(machine) == precisions
    found = abilities.plugin_route(machine)
    assert found["route"] == route and found["why"]


def test_the_kernels_are_made_for_what_doctor_says():
    pytest.importorskip("triton")
    from vlseg.kernels.variants import ARCHITECTURES

    assert abilities.KERNEL_ARCHITECTURES == ARCHITECTURES


def jetson(root: Path, release: str, model: str) -> Path:
    for name, text in {
        "etc/nv_tegra_release": f"# {release}, GCID: 1, BOARD: generic, EABI: aarch64, DATE: x\n",
        "proc/device-tree/model": f"{model}\0",
        "proc/meminfo": "MemTotal:        7802880 kB\nMemFree: 1 kB\n",
        "proc/cpuinfo": "processor : 0\nmodel name : ARMv8 Processor rev 1 (v8l)\n",
        "usr/lib/aarch64-linux-gnu/libnvinfer.so.10.3.0": "",
        "usr/lib/aarch64-linux-gnu/libnvinfer.so.10": "",
        "usr/lib/aarch64-linux-gnu/libnvinfer.so.9.10.0": "",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("release", "model", "l4t", "jetpack", "capability"),
    [
        ("R36 (release), REVISION: 4.3", "NVIDIA Jetson Orin Nano Developer Kit", "36.4.3", "6", "8.7"),
        ("R38 (release), REVISION: 2.1", "NVIDIA Jetson AGX Thor Developer Kit", "38.2.1", "7.0", "11.0"),
        ("R39 (release), REVISION: 2.0", "NVIDIA Jetson AGX Orin", "39.2.0", "7.2", "8.7"),
        ("R41 (release), REVISION: 1.0", "NVIDIA Jetson Next", "41.1.0", None, None),
    ],
)
def test_a_jetson(tmp_path, release, model, l4t, jetpack, capability):
    report = doctor(jetson(tmp_path, release, model))
    assert report["jetpack"] == {"l4t": l4t, "jetpack": jetpack, "model": model}
    assert [gpu["compute_cap"] for gpu in report["gpus"]] == ([capability] if capability else [])
    assert report["tensorrt"] == "10.3.0"
    assert report["cpu"] == "ARMv8 Processor rev 1 (v8l)" and report["memory_mib"] == 7620
    assert any("8 GB or less" in fault["what"] for fault in report["faults"])


def test_a_machine_that_tells_nothing(tmp_path):
    report = doctor(tmp_path)
    assert report["jetpack"] is None and report["gpus"] == [] and report["memory_mib"] is None


def test_nvidia_smi():
    text = "NVIDIA H100 80GB HBM3, 9.0, 81559, 580.65.06\nOrin (nvgpu), [N/A], [N/A], [N/A]\nnonsense\n"
    assert facts._parse_smi(text) == [
        {"name": "NVIDIA H100 80GB HBM3", "compute_cap": "9.0", "memory_mib": 81559, "driver": "580.65.06"},
        {"name": "Orin (nvgpu)", "compute_cap": None, "memory_mib": None, "driver": None},
    ]


@pytest.mark.parametrize("failure", [FileNotFoundError, lambda: subprocess.TimeoutExpired("nvidia-smi", 10)])
def test_nvidia_smi_that_hangs_or_is_absent(monkeypatch, failure):
    def fail(*args, **options):
        raise failure()

    monkeypatch.setattr(subprocess, "run", fail)
    assert facts._smi() == ""


def test_the_field_needs_no_torch():
    """Everything that runs in the field loads with the training and export libraries refused; scipy and typer too."""
    refused = [
        "torch",
        "monai",
        "transformers",
        "onnx",
        "triton",
        "lightning",
        "scipy",
        "typer",
        "onnxruntime",
        "openvino",
        "gradio",
    ]
    code = (
        f"import sys\nfor name in {refused}: sys.modules[name] = None\n"
        "import vlseg.deploy.segmenter, vlseg.deploy.evaluate, vlseg.deploy.bench.run, vlseg.deploy.doctor\n"
        "import vlseg.deploy.annotations, vlseg.deploy.rows\n"
        "assert vlseg.deploy.doctor.doctor()['engines'] == []\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_mask_without_torch(toy_bundle):
    """With the training and export libraries refused, a bundle still gives a mask."""
    refused = ["torch", "monai", "transformers", "onnx", "triton", "lightning", "scipy"]
    code = (
        f"import sys\nfor name in {refused}: sys.modules[name] = None\n"
        "import numpy as np\nfrom vlseg.deploy.segmenter import Segmenter\n"
        "image = np.zeros((9, 8, 3), np.uint8)\nimage[:4, :, 0] = 255\n"
        "mask = Segmenter.open(sys.argv[1]).segment(image, 'red')\n"
        "assert mask[0].all() and not mask[-1].any()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(toy_bundle)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
