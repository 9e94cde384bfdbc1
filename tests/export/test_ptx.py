"""Kernels inside a bundle: for each node the PTX that an engine launches, and all that it must know to do so."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("triton")

from onnx import TensorProto, helper, numpy_helper

from vlseg.deploy.errors import UserError
from vlseg.deploy.manifest import Manifest
from vlseg.deploy.segmenter import Segmenter
from vlseg.export.functions import add_functions
from vlseg.export.ptx import launches_of, pack_ptx, without_debug
from vlseg.kernels import check, nodes
from vlseg.kernels.compile import compile_variant
from vlseg.kernels.nodes import BottleneckNode, ClosedNode

PARTS = ("image.onnx", "text.onnx", "decoder.onnx")


@pytest.fixture(scope="session")
def packed(exported, tmp_path_factory):
    """The nano bundle with the kernels of two architectures, and their rows."""
    folder = tmp_path_factory.mktemp("ptx") / "bundle"
    shutil.copytree(exported[1], folder)
    steps = []
    return folder, pack_ptx(folder, PARTS, (87, 120), steps.append), steps


def test_every_node_has_its_kernels(packed):
    folder, rows, steps = packed
    assert json.loads((folder / "ptx" / "kernels.json").read_text()) == rows
    assert len(steps) == 2 and "sm_87" in steps[0]
    used = {n.op_type for name in PARTS for n in onnx.load(folder / name).graph.node if n.domain == nodes.DOMAIN}
    for arch in (87, 120):
        assert {row["node"] for row in rows if row["arch"] == arch} == used


def test_the_arguments_are_inputs_integers_outputs(packed):
    """The order in which TensorRT calls a plugin's kernel; the PTX declares just as many parameters."""
    folder, rows, _ = packed
    for row in rows:
        inputs = [f"{name}_ptr" for name in nodes.parse(row["node"]).inputs]
        integers = [one["name"] for one in row["arguments"] if one["type"] == "i32"]
        assert [one["name"] for one in row["arguments"]] == [*inputs, *integers, "y_ptr"], row["node"]
        assert set(integers) <= row["symbols"].keys() and row["outputs"] == [nodes.parse(row["node"]).inputs[0]]
        text = (folder / row["ptx"]).read_text()
        head = text[text.index(f".visible .entry {row['entry']}(") : text.index("\n)")]
        assert head.count(".param") == len(row["arguments"])


def test_the_assembler_takes_them(packed):
    folder, rows, _ = packed
    for row in rows:
        text = (folder / row["ptx"]).read_text()
        assert f".target {row['target']}" in text and f".version {row['ptx_version'] / 10}" in text
        registers, spilled = check.assemble(text, row["target"], row["arch"])
        assert registers > 0 and spilled == 0 and row["shared_bytes"] <= 48 * 1024


def test_no_path_of_the_builder_leaks(packed):
    folder, rows, _ = packed
    root = str(Path(check.__file__).parent.parent)
    for row in rows:
        text = (folder / row["ptx"]).read_text()
        assert not [secret for secret in (root, sys.prefix, ".py", ".debug", ".loc") if secret in text]
    # Triton's cache may hold what another checkout compiled, so its path is any
    ptx = compile_variant(next(iter(launches_of(onnx.load(folder / "image.onnx"))))[2].variants[0], 87).ptx
    assert "bottleneck_kernels.py" in ptx and ".loc" in ptx


def test_debug_lines_alone_leave():
    section = "\t.section\t.debug_str\n\t{\n.b8 47\n\t}\n"
    text = f'.version 8.5\n\t.loc\t1 5 0 // a.py:5:0\n\tret;\n{section}\t.file\t1 "/x.py"\n'
    assert without_debug(text) == ".version 8.5\n\tret;\n"


def graph_of(node, sizes, kind=TensorProto.FLOAT16):
    """Return a graph of one node whose weights are initializers."""
    given, weights = list(node.inputs), []
    for name in [one for one in node.inputs if one not in ("x", "hidden", "vision", "text", "residual")]:
        given.remove(name)
        weights.append(numpy_helper.from_array(np.zeros(sizes[name], helper.tensor_dtype_to_np_dtype(kind)), name))
    ends = [helper.make_tensor_value_info(name, kind, sizes[name]) for name in given]
    result = helper.make_tensor_value_info("y", kind, sizes[given[0]])
    body = [helper.make_node(node.name, node.inputs, ["y"], domain=nodes.DOMAIN, **nodes.ATTRIBUTES)]
    model = helper.make_model(helper.make_graph(body, "one", ends, [result], weights), ir_version=10)
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", 20))
    add_functions(model)
    return model


def bottleneck_sizes(width=768, rank=64, rows=485):
    return {
        "x": (rows, width), "hidden": (rows, rank), "residual": (rows, width), "norm_weight": (width,),
        "norm_bias": (width,), "down": (rank, width), "down_bias": (rank,), "up": (width, rank), "up_bias": (width,),
        "scale": (width,),
    }  # fmt: skip


@pytest.mark.parametrize(
    "node",
    [
        BottleneckNode("relu", "relu"),
        BottleneckNode("identity", "identity", folded=True, scaled=True),
        BottleneckNode("gelu", "identity", 6, residual=True),
    ],
    ids=lambda node: node.name,
)
def test_what_the_name_says_is_compiled_in(node):
    ((name, dtype, launch),) = launches_of(graph_of(node, bottleneck_sizes()))
    assert (name, dtype, launch.sizes) == (node.name, "fp16", {"x": [None, 768], "up": [768, 64]})
    assert len(launch.variants) == 2, "one tile for few rows, one for many"
    for variant in launch.variants:
        assert (variant.constants["INNER"], variant.constants["OUTER"]) == (node.inner, node.outer)
        assert variant.constants["EPS"] == (1e-6 if node.eps else 1e-5)
        pointers = [name for name, kind in variant.signature().items() if kind == "*fp16"]
        assert pointers == [f"{one}_ptr" for one in node.inputs] + ["y_ptr"]


def test_the_closed_cross_attention_is_one_kernel():
    width, inner = 768, 96
    sizes = {
        "vision": (1, 256, width), "text": (1, 1, width), "norm_weight": (width,), "norm_bias": (width,),
        "value_weight": (inner, width), "value_bias": (inner,), "out_weight": (width, inner), "out_bias": (width,),
        "gamma": (width,),
    }  # fmt: skip
    ((_, _, launch),) = launches_of(graph_of(ClosedNode(5), sizes))
    assert launch.sizes == {"vision": [None, 256, width], "value_weight": [inner, width]}
    assert launch.symbols == {"batch": ["vision", 0]} and launch.variants[0].constants["tokens"] == 256


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.BFLOAT16])
def test_other_dtypes_have_no_kernel(kind):
    assert not list(launches_of(graph_of(BottleneckNode("relu", "relu"), bottleneck_sizes(16, 4, 5), kind)))


def test_a_rank_beyond_the_registers_has_no_kernel():
    assert not list(launches_of(graph_of(BottleneckNode("relu", "relu"), bottleneck_sizes(768, 513))))


def test_a_graph_without_operators_gets_no_folder(exported, tmp_path):
    shutil.copy(exported[1] / "decoder.onnx", tmp_path)
    assert pack_ptx(tmp_path, ["decoder.onnx"], (87,)) == []
    assert [path.name for path in tmp_path.iterdir()] == ["decoder.onnx"]


def test_an_unknown_architecture(tmp_path):
    with pytest.raises(UserError, match="no kernels for sm_75; known: 80, 86, 87"):
        pack_ptx(tmp_path, [], (75,))


@pytest.mark.slow
@pytest.mark.parametrize("width, rank", [(768, 64), (512, 256), (192, 16)])
@pytest.mark.parametrize("node", [BottleneckNode("relu", "identity", 6, scaled=True), BottleneckNode("gelu", "relu")])
def test_named_kernels_keep_to_the_gate(node, width, rank):
    """What the name adds to the listed variants costs no spill on any architecture."""
    ((_, _, launch),) = launches_of(graph_of(node, bottleneck_sizes(width, rank)))
    rows = check.check((80, 87, 90, 120), launch.variants)
    assert [row for row in rows if not row["passed"]] == []


@pytest.mark.slow
def test_the_folder_for_a_jetson_brings_kernels_for_orin_and_thor(exported, door, picture, tmp_path):
    """From the bundle through the door: the real compiler, the real wheel, the sealed copy."""
    out = tmp_path / "spot.jetson"
    said = door("deploy", exported[1], "--to", "jetson", out, "--json")
    assert said.code == 0, said.err
    report = json.loads(said.out)
    assert report["kernels"] is True and "compiling" in said.err and "sm_110" in said.err
    rows = json.loads((out / "bundle" / "ptx" / "kernels.json").read_text())
    used = {
        n.op_type for name in PARTS for n in onnx.load(out / "bundle" / name).graph.node if n.domain == nodes.DOMAIN
    }
    for arch in (87, 110):
        own = [row for row in rows if row["arch"] == arch]
        assert {row["node"] for row in own} == used
        for row in own:
            text = (out / "bundle" / row["ptx"]).read_text()
            assert f".target {row['target']}" in text and check.assemble(text, row["target"], arch)[1] == 0
    assert {row["arch"] for row in rows} == {87, 110}
    assert {f"bundle/{row['ptx']}" for row in rows} <= set(report["files"])
    assert "our kernels in `ptx/`" in (out / "README.md").read_text()
    assert {row["ptx"] for row in rows} <= Manifest.load(out / "bundle").files.keys()
    with Segmenter.open(out / "bundle") as copy, Segmenter.open(exported[1]) as original:
        assert np.array_equal(copy.logits(picture, "spot"), original.logits(picture, "spot"))
