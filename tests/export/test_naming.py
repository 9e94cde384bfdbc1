"""The kind of every node is in its name, and survives what ONNX Runtime does to the graph."""

import numpy as np
import onnx
import pytest

from vlseg.deploy.engines.ort import node_times
from vlseg.deploy.kinds import KINDS, kind_of, named
from vlseg.export.naming import _kind


def graphs(folder):
    return {part: onnx.load(folder / f"{part}.onnx") for part in ("image", "text", "decoder")}


def test_every_node_says_its_kind(exported):
    _, folder, _ = exported
    for part, graph in graphs(folder).items():
        names = [node.name for node in graph.graph.node]
        assert all(name.split("/")[0] in KINDS for name in names) and len(set(names)) == len(names)
        found = {kind_of(name) for name in names}
        assert {"attention", "mlp", "norms"} <= found and ("adapters" in found) == (part != "decoder")


def test_functions_are_named_too(exported):
    _, folder, _ = exported
    bodies = [node.name for graph in graphs(folder).values() for function in graph.functions for node in function.node]
    assert bodies and {kind_of(name) for name in bodies} == {"adapters"}


def test_kinds_survive_the_engine(exported):
    _, folder, _ = exported
    image = graphs(folder)["image"]
    side = image.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    times = node_times(folder / "image.onnx", 1, {"pixel_values": np.zeros((1, 3, side, side), np.float32)}, 2)
    kinds = {kind_of(name) for name, _ in times}
    assert {"adapters", "attention", "mlp", "norms"} <= kinds
    assert all(ms >= 0 for _, ms in times)


def test_the_names_hold_no_path(exported):
    _, folder, _ = exported
    for graph in graphs(folder).values():
        assert not [node.name for node in graph.graph.node if "/home" in node.name or node.name.count("/") != 1]


@pytest.mark.parametrize(
    ("scopes", "kind"),
    [
        (["", "model", "model.layers.0.self_attn.graft", "linear"], "adapters"),
        (["", "model", "model.layers.0.self_attn", "softmax"], "attention"),
        (["", "model", "model.layers.0.mlp.module", "linear"], "mlp"),
        (["", "model", "model.layers.0.layer_norm1", "layer_norm"], "norms"),
        (["", "model", "model.vision_taps.2", "linear"], "adapters"),
        (["", "model", "model.fusions.4.attention", "linear"], "fusion"),
        (["", "model", "model.embeddings.patch_embedding", "conv2d"], "embeddings"),
        (["", "model", "add_3"], "rest"),
        ([], "rest"),
    ],
)
def test_kinds_by_the_modules_around(scopes, kind):
    assert _kind(scopes) == kind


@pytest.mark.parametrize("around", ["{}", "fused {}", "_inlfunc_Bottleneck_{}", "{}/QuickGeluFusion/"])
def test_what_an_engine_puts_around_a_name(around):
    assert kind_of(around.format(named("adapters", "node_3"))) == "adapters"
    assert kind_of(around.format("node_3")) == "rest"
