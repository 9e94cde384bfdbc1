"""Half with islands of float32: kinds of layers are judged where half costs too much, and what hurts stays."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from vlseg.deploy.drawn import draw_cases
from vlseg.deploy.engines.ort import OnnxRuntime
from vlseg.deploy.manifest import Manifest
from vlseg.export import bundle as bundles
from vlseg.export.bundle import Options, export_model
from vlseg.export.graph import to_onnx
from vlseg.export.islands import REST, Mixed, choose_halves, groups_of, too_dear
from vlseg.export.parts import sources_of
from vlseg.export.precision import HalfInside
from vlseg.export.prepare import prepare
from vlseg.train.models.methods import build_model


def prepared(method="clipseg/dense-vl", **options):
    return prepare(build_model(method, "nano", weights="random", **options))


def overflowing():
    """A model of whose decoder one MLP reaches beyond the range of half on the way, and comes back."""
    model = build_model("clipseg/dense-vl", "nano", weights="random")
    mlp = model.library.decoder.layers[1].mlp
    with torch.no_grad():
        mlp.fc1.weight.mul_(2e4)
        mlp.fc1.bias.fill_(6e4)
        mlp.fc2.weight.mul_(1e-2)
    return model


@torch.inference_mode()
def run(module, source):
    draw = torch.Generator().manual_seed(0)
    given = [
        torch.randn(one.shape, generator=draw) if one.is_floating_point() else one for one in source.inputs.values()
    ]
    return module(*given)


@pytest.mark.parametrize("method", ["clipseg/dense-vl", "sam/lga", "cris/coop", "san/adapter"])
def test_all_half_is_the_half_part_and_nothing_half_is_the_part(method):
    for source in sources_of(prepared(method)).values():
        groups = groups_of(source.module)
        for half, expected in (({*groups, REST}, HalfInside(source.module)), (set(), source.module)):
            for one, other in zip(run(Mixed(source.module, groups, half), source), run(expected, source), strict=True):
                assert torch.equal(one, other)


def test_kinds_of_layers_do_not_overlap():
    part = prepared().parts["image"]
    groups = groups_of(part)
    names = [name for some in groups.values() for name in some]
    assert {"norms", "attention", "mlp"} <= groups.keys()
    assert not any(one != other and one.startswith(f"{other}.") for one in names for other in names)


@pytest.mark.slow
def test_an_island_keeps_its_weights_and_reaches_the_graph(tmp_path):
    source = sources_of(prepared())["decoder"]
    groups = groups_of(source.module)
    mixed = Mixed(source.module, groups, {*groups, REST} - {"mlp"})
    for name in groups["mlp"]:
        for own, its in zip(
            mixed.module.get_submodule(name).parameters(), source.module.get_submodule(name).parameters(), strict=True
        ):
            assert torch.equal(own, its)
    graph = to_onnx(replace(source, module=mixed))
    kinds = {one.data_type for one in graph.graph.initializer if len(one.dims) == 2}
    assert kinds == {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16}
    onnx.save(graph, tmp_path / "decoder.onnx")
    given = {name: torch.randn(one.shape).numpy() for name, one in source.inputs.items()}
    found = OnnxRuntime(tmp_path / "decoder.onnx").run(given)["logits"]
    with torch.inference_mode():
        expected = source.module(*map(torch.from_numpy, given.values()))[0].numpy()
    assert 0 < np.abs(found - expected).max() < 0.05 * expected.std()


def test_the_kind_of_layer_that_leaves_the_range_stays_float():
    model = overflowing()
    made = prepare(model)
    manifest = bundles._manifest(model, {"method": "clipseg/dense-vl", "size": "nano"}, Options("fp16"))
    said = []
    halves, records = choose_halves(made, manifest, [(one.image, one.prompt) for one in draw_cases()[:3]], said.append)
    left = {(one["part"], one["group"]) for one in records if not one["half"]}
    assert ("decoder", "mlp") in left and ("image", "mlp") not in left
    assert len(said) >= len(records) and any("decoder mlp: least Dice 0.0000" in line for line in said)
    source = sources_of(made)["decoder"]
    assert all(torch.isfinite(one).all() for one in run(halves["decoder"](), source))
    assert not all(torch.isfinite(one).all() for one in run(HalfInside(source.module), source))


@pytest.mark.slow
def test_a_half_bundle_that_answered_with_nan_has_an_island_now(tmp_path):
    info = {"method": "clipseg/dense-vl", "size": "nano", "weights": "random"}
    report = export_model(overflowing(), info, tmp_path / "bundle", Options("fp16", folds="none"))
    assert report["parity"]["passed"]
    manifest = Manifest.load(tmp_path / "bundle")
    assert manifest.precision == "fp16"
    half = {(one["part"], one["group"]): one["half"] for one in manifest.quantised}
    assert not half["decoder", "mlp"] and any(half.values()) and report["quantised"] == manifest.quantised


def test_what_is_too_dear():
    cheap = {"judged_by": "masks", "passed": True, "dice_min": 0.999, "flipped_share": 1e-4}
    assert not too_dear(cheap) and not too_dear({**cheap, "judged_by": "logits", "dice_min": 0.5})
    assert too_dear({**cheap, "dice_min": 0.992}) and too_dear({**cheap, "flipped_share": 1e-3})
    assert too_dear({**cheap, "passed": False})


@pytest.mark.slow
def test_eight_bits_keep_the_islands_of_half(tmp_path):
    """What is beyond the range of half stays float32 in an eight-bit bundle too, and its neighbours get eight bits."""
    info = {"method": "clipseg/dense-vl", "size": "nano", "weights": "random"}
    pictures, said = [(one.image, one.prompt) for one in draw_cases()[:3]], []
    options = Options("int8-fp16", folds="none")
    report = export_model(overflowing(), info, tmp_path / "bundle", options, pictures=pictures, progress=said.append)
    manifest = Manifest.load(tmp_path / "bundle")
    assert report["parity"]["passed"] and manifest.precision == "int8-fp16"
    half = {(one["part"], one["group"]): one["half"] for one in manifest.quantised if "half" in one}
    assert not half["decoder", "mlp"] and any(half.values())
    assert any(one["quantised"] for one in manifest.quantised if "quantised" in one)
    kinds = {
        part: {one.data_type for one in onnx.load(tmp_path / "bundle" / f"{part}.onnx").graph.initializer}
        for part in ("image", "decoder")
    }
    assert onnx.TensorProto.INT8 in kinds["image"] and onnx.TensorProto.FLOAT in kinds["decoder"]
    for part, found in kinds.items():
        assert (onnx.TensorProto.FLOAT16 in found) == any(on for (where, _), on in half.items() if where == part)
