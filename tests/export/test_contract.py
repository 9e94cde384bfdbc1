"""Our plugins inside TensorRT's real Python bindings, five versions of them, with stub libraries for its C++."""

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

pytest.importorskip("triton")

from vlseg.deploy.manifest import Manifest
from vlseg.export.ptx import pack_ptx
from vlseg.kernels import check
from vlseg.kernels.nodes import BottleneckNode, ClosedNode

from ..deploy.tensorrt import contract_sizes, stubs
from .test_ptx import bottleneck_sizes, graph_of

VERSIONS = ("10.9.0.34", "10.13.3.9", "10.16.1.11", "11.0.0.114", "11.4.0.106")
NODES = (
    BottleneckNode("relu", "relu"),
    BottleneckNode("relu", "identity", 6, scaled=True),
    BottleneckNode("gelu", "relu", folded=True, residual=True),
    ClosedNode(5),
)
WIDTH, RANK = 192, 16
ARCHITECTURES = (87, 110)


@pytest.fixture(scope="module")
def kernels_of_every_kind(tmp_path_factory):
    """A bundle that holds the kernels of every kind of node, for Orin and Thor."""
    folder = tmp_path_factory.mktemp("contract")
    sizes = bottleneck_sizes(WIDTH, RANK) | contract_sizes.closed(WIDTH, 256, 32)
    for node in NODES:
        onnx.save(graph_of(node, sizes), folder / f"{node.name}.onnx")
    rows = pack_ptx(folder, [f"{node.name}.onnx" for node in NODES], ARCHITECTURES)
    file = f"{NODES[0].name}.onnx"
    fields = {"method": "toy/toy", "size": "toy", "image_size": 16, "mean": (0.5,) * 3, "std": (0.2,) * 3}
    parts = dict.fromkeys(("image", "text", "decoder"), file)
    Manifest(name="kernels", parts=parts, tokenizer=file, **fields).save(folder)
    return folder, rows


@pytest.mark.network
@pytest.mark.timeout(300)
@pytest.mark.skipif(stubs.compiler() is None, reason="no C compiler makes the stub libraries")
@pytest.mark.parametrize("version", VERSIONS)
def test_the_builder_gets_what_the_kernel_takes(kernels_of_every_kind, version, tmp_path):
    """Registered, tuned, launched: PTX parameters are inputs, integers and outputs; shapes static, no attributes."""
    folder, rows = kernels_of_every_kind
    libraries = stubs.make_stubs(tmp_path / "stubs", version.split(".")[0])
    bindings = stubs.unpack(version, tmp_path, sys.executable)
    path = os.pathsep.join([str(bindings), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"LD_LIBRARY_PATH": str(libraries), "PYTHONPATH": path}
    for arch in ARCHITECTURES:
        command = [sys.executable, str(Path(stubs.__file__).parent / "contract.py"), str(folder), str(arch)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        launched = [json.loads(line) for line in done.stdout.splitlines()]  # TensorRT's own notes are kept out of it
        assert len(launched) == len([row for row in rows if row["arch"] == arch])
        assert {one["node"] for one in launched} == {node.name for node in NODES}
        for one in launched:
            assert one["version"] == version and one["attributes"] == 0 and one["ptx"]
            assert one["parameters"] == one["expected"] and one["output"] == one["first"]
            assert one["tactic"] in one["tactics"] and min(one["tactics"]) > 0
            assert one["block"] == [one["threads"], 1, 1] and one["shared"] <= 48 * 1024
            assert _covers(one), one


def _covers(one: dict) -> bool:
    """Do the blocks of a launch reach every row and column?"""
    grid, k = one["grid"], one["constants"]
    if one["node"].startswith("Bottleneck"):
        rows, width = one["first"]
        return one["integers"] == [rows] and grid[0] * k["ROWS"] >= rows and grid[2] * k["COLUMNS"] >= width
    batch, tokens, width = one["first"]
    rows = grid[1] * k["rows_per_share"]
    return not one["integers"] and grid[0] * k["BLOCK"] >= width and rows >= tokens and grid[2] == batch


def test_the_ptx_is_valid_for_its_targets(kernels_of_every_kind):
    folder, rows = kernels_of_every_kind
    assert {row["arch"] for row in rows} == set(ARCHITECTURES)
    for row in rows:
        _, spilled = check.assemble((folder / row["ptx"]).read_text(), row["target"], row["arch"])
        assert spilled == 0
