import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from vlseg.deploy.engines.ort import OnnxRuntime
from vlseg.deploy.errors import BundleError, UserError
from vlseg.deploy.manifest import Manifest
from vlseg.deploy.segmenter import Segmenter
from vlseg.export import bundle as module
from vlseg.export.bundle import Options, export, export_model
from vlseg.export.parity import torch_segmenter
from vlseg.export.policy import operators
from vlseg.train.models.parts import parts_of
from vlseg.train.models.runs import save_run

SHAPES = [(1, 2), (1, 7), (3, 33), (2, 20), (16, 77)]
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def test_the_report_is_json_with_the_promised_keys(exported):
    report, folder, steps = exported
    assert json.loads(json.dumps(report)).keys() >= {"bundle", "parity", "folds", "quantised", "engines"}
    assert {"images", "dice_min", "flipped_share", "max_abs_logit", "passed"} <= report["parity"].keys()
    assert report["bundle"] == str(folder) and report["parity"]["passed"] and report["parity"]["images"] >= 16
    assert len(steps) == 5 and all(isinstance(step, str) for step in steps)


def test_it_opens_in_the_runtime_and_draws_the_masks_of_the_model(exported, nano, picture):
    _, folder, _ = exported
    with Segmenter.open(folder) as segmenter:
        reference = torch_segmenter(nano, segmenter.manifest)
        for prompt in ("a red polyp", "one small lesion on the left", ""):
            np.testing.assert_allclose(segmenter.logits(picture, prompt), reference.logits(picture, prompt), **CLOSE)
            assert segmenter.segment(picture, prompt).shape == picture.shape[:2]


def test_the_manifest_says_what_is_inside(exported, nano):
    report, folder, _ = exported
    manifest = Manifest.load(folder)
    assert manifest.axes["image"] == {"pixel_values": ["batch", 3, 32, 32], "image_embedding": ["batch", 3, 17, 16]}
    assert manifest.axes["text"]["input_ids"] == ["batch", "length"] == manifest.axes["text"]["attention_mask"]
    assert manifest.axes["decoder"]["logits"] == ["batch", 1, 32, 32]
    assert manifest.threshold == 0.4 and manifest.opset == 20 and manifest.precision == "fp32"
    assert manifest.weights_hash == nano.weights_hash and manifest.folds == report["folds"]
    assert manifest.parity == report["parity"] and manifest.versions["torch"] in torch.__version__


def test_only_numbers_of_the_training_are_kept(exported):
    _, folder, _ = exported
    assert Manifest.load(folder).training == {"val": {"dice": 0.5}}
    text = (folder / "manifest.json").read_text()
    assert "patient" not in text and "/home" not in text


@pytest.mark.parametrize("shape", SHAPES)
def test_batch_and_length_are_really_dynamic(exported, nano, shape):
    _, folder, _ = exported
    batch, length = shape
    draw = np.random.default_rng(batch)
    words = ["lesion " * int(n) for n in draw.integers(0, length, batch)]
    ids, mask = nano.tokenizer(words, length)
    pixels = draw.standard_normal((batch, 3, 32, 32), dtype=np.float32)
    image = OnnxRuntime(folder / "image.onnx").run({"pixel_values": pixels})["image_embedding"]
    text = OnnxRuntime(folder / "text.onnx").run({"input_ids": ids, "attention_mask": mask})["text_embedding"]
    found = OnnxRuntime(folder / "decoder.onnx").run({"image_embedding": image, "text_embedding": text})["logits"]
    with torch.no_grad():
        parts = parts_of(nano)
        expected = *parts["image"](torch.from_numpy(pixels)), *parts["text"](*map(torch.from_numpy, (ids, mask)))
        np.testing.assert_allclose(image, expected[0], **CLOSE)
        np.testing.assert_allclose(text, expected[1], **CLOSE)
        np.testing.assert_allclose(found, *parts["decoder"](*expected), **CLOSE)


def test_a_sentence_does_not_depend_on_its_padding(exported, nano):
    _, folder, _ = exported
    engine = OnnxRuntime(folder / "text.onnx")
    short, long = (
        dict(zip(("input_ids", "attention_mask"), nano.tokenizer(["a polyp"], n), strict=True)) for n in (8, 77)
    )
    np.testing.assert_allclose(engine.run(short)["text_embedding"], engine.run(long)["text_embedding"], **CLOSE)


def test_dead_parts_are_not_in_the_graphs(exported, nano):
    _, folder, _ = exported
    image, text, decoder = (onnx.load(folder / f"{name}.onnx") for name in ("image", "text", "decoder"))
    counts = [operators(graph) for graph in (image, text, decoder)]
    assert [one["Softmax"] for one in counts] == [3, 4, 3]
    assert [one["LayerNormalization"] for one in counts] == [1 + 2 * 3, 2 * 4 + 1, 2 * 3]
    weights = sum(int(np.prod(one.dims)) for graph in (image, text, decoder) for one in graph.graph.initializer)
    alive = sum(p.numel() for p in nano.parameters())
    assert weights < alive


def test_the_graphs_are_plain(exported):
    _, folder, _ = exported
    for path in folder.glob("*.onnx"):
        graph = onnx.load(path)
        opsets = {(one.domain, one.version) for one in graph.opset_import}
        assert graph.ir_version <= 10 and ("", 20) in opsets and opsets <= {("", 20), ("vlseg", 1)}
        assert not {"Resize", "If", "Loop"} & operators(graph).keys()


def test_every_adapter_is_a_node_with_its_function(exported):
    _, folder, _ = exported
    counts = {"image": 2, "text": 2, "decoder": 0}
    for name, count in counts.items():
        graph = onnx.load(folder / f"{name}.onnx")
        left = [node.op_type for node in graph.graph.node if node.domain == "vlseg"]
        assert len(left) >= count and {function.name for function in graph.functions} == set(left), (name, left)


def test_no_path_of_the_builder_leaks(exported):
    _, folder, _ = exported
    root = str(Path(module.__file__).parent.parent)
    secrets = [root, sys.prefix, os.path.expanduser("~") + "/", "site-packages", 'File "', str(folder.parent)]
    for path in folder.iterdir():
        content = path.read_bytes()
        assert not [secret for secret in secrets if secret.encode() in content], path.name


def test_folds_are_written_down(exported):
    folds = exported[0]["folds"]
    sites = [record for record in folds if record["fold"] == "down-projection"]
    assert [(record["in"], record["rows"], record["sites"], record["folded"]) for record in sites] == [
        (32, 16, 2, True),
        (32, 17, 2, True),
    ]


def test_a_run_folder_becomes_a_bundle(exported, same_graphs, nano, info, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    save_run(run, nano, info)
    report = export(run, tmp_path / "out", folds="all")
    assert Manifest.load(tmp_path / "out").name == "out" and report["parity"]["passed"]


def test_the_place_of_local_weights_is_not_told():
    assert module.origin({"method": "clipseg/coop", "size": "base", "weights": "/home/someone/clipseg"}) == "local"
    assert module.origin({"method": "clipseg/coop", "size": "base", "weights": None}) == "CIDAS/clipseg-rd64-refined"


def test_fixed_prompts_leave_no_text_part(exported, same_graphs, nano, info, picture, tmp_path):
    prompts = ("a red polyp", "one small lesion on the left")
    export_model(nano, info, tmp_path / "out", Options(fixed_prompts=prompts, folds="all"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "MODEL_CARD.md",
        "answers.npz",
        "decoder.onnx",
        "fixed_text.npy",
        "image.onnx",
        "manifest.json",
    ]
    with Segmenter.open(tmp_path / "out") as fixed, Segmenter.open(exported[1]) as free:
        for prompt in prompts:
            np.testing.assert_allclose(fixed.logits(picture, prompt), free.logits(picture, prompt), **CLOSE)
        with pytest.raises(UserError, match="does not know the prompt"):
            fixed.segment(picture, "something else")


def test_a_bundle_that_disagrees_is_refused_and_nothing_is_written(same_graphs, nano, info, monkeypatch, tmp_path):
    load = module.to_onnx

    def wrong(source, opset):
        graph = load(source, opset)
        for tensor in graph.graph.initializer:
            if source.outputs == ("logits",) and len(tensor.dims) == 2:
                tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * 1.1, tensor.name))
        return graph

    monkeypatch.setattr(module, "to_onnx", wrong)
    with pytest.raises(UserError, match="does not agree with the model"):
        export_model(nano, info, tmp_path / "out", Options(folds="all"))
    assert not list(tmp_path.iterdir())


def test_a_bundle_is_replaced_and_nothing_else_is(same_graphs, nano, info, tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("years")
    export_model(nano, info, ours, Options(folds="all"))
    export_model(nano, info, ours, Options(folds="all"))
    with pytest.raises(UserError, match="exists already"):
        export_model(nano, info, ours, Options(folds="all"), overwrite=False)
    with pytest.raises(UserError, match="not ours"):
        export_model(nano, info, theirs, Options(folds="all"))
    assert (theirs / "thesis.txt").read_text() == "years" and Manifest.load(ours)


@pytest.mark.parametrize("precision", ["int4", "bf16"])
def test_an_unknown_precision_names_the_known_ones(precision, tmp_path):
    with pytest.raises(UserError, match="fp32, fp16"):
        export(tmp_path, tmp_path / "out", precision=precision)


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(UserError, match="not a run"):
        export(tmp_path, tmp_path / "out")


def test_a_changed_byte_is_seen(same_graphs, nano, info, tmp_path):
    export_model(nano, info, tmp_path / "out", Options(folds="all"))
    path = tmp_path / "out" / "image.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match="hash"):
        Segmenter.open(tmp_path / "out")


OLD_RUNTIME = """
import sys, numpy as np, onnxruntime
assert onnxruntime.__version__.startswith("1.23."), onnxruntime.__version__
open_ = lambda name: onnxruntime.InferenceSession(f"{sys.argv[1]}/{name}.onnx", providers=["CPUExecutionProvider"])
case = np.load(sys.argv[2])
image, = open_("image").run(None, {"pixel_values": case["pixels"]})
text, = open_("text").run(None, {"input_ids": case["ids"], "attention_mask": case["mask"]})
logits, = open_("decoder").run(None, {"image_embedding": image, "text_embedding": text})
np.testing.assert_allclose(logits, case["logits"], rtol=1e-4, atol=1e-5)
"""


@pytest.mark.network
@pytest.mark.timeout(600)
def test_the_runtime_of_jetpack_6_opens_it(exported, nano, tmp_path):
    _, folder, _ = exported
    ids, mask = nano.tokenizer(["a red polyp", "one small lesion on the left"])
    pixels = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
    with torch.no_grad():
        logits = nano(*map(torch.from_numpy, (pixels, ids, mask))).numpy()
    np.savez(tmp_path / "case.npz", pixels=pixels, ids=ids, mask=mask, logits=logits)
    venv.create(tmp_path / "old", with_pip=True)
    python = tmp_path / "old" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "onnxruntime==1.23.*", "numpy"], check=True)
    subprocess.run([python, "-c", OLD_RUNTIME, folder, tmp_path / "case.npz"], check=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_base_size(precision, tmp_path):
    from vlseg.train.models.methods import build_model

    model = build_model("clipseg/dense-vl", "base", weights="random")
    info = {"method": "clipseg/dense-vl", "size": "base", "weights": "random"}
    report = export_model(model, info, tmp_path / "out", Options(precision, folds="none"))
    assert report["parity"]["passed"] and report["parity"]["judged_by"] == "logits"
    layers = {"image": 10, "text": 12, "decoder": 3}
    for name, count in layers.items():
        assert operators(onnx.load(tmp_path / "out" / f"{name}.onnx"))["Softmax"] == count
