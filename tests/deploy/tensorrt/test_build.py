import json
import os
import signal
import threading
from dataclasses import replace

import numpy as np
import onnx
import pytest

from vlseg.deploy.engines import trt as engine_of
from vlseg.deploy.errors import BundleError, EngineError, UserError
from vlseg.deploy.files import read_json, write_json
from vlseg.deploy.manifest import Manifest
from vlseg.deploy.segmenter import Segmenter
from vlseg.deploy.tensorrt.budget import MIB
from vlseg.deploy.tensorrt.build import Options, build
from vlseg.deploy.tensorrt.cuda import Cuda
from vlseg.deploy.tensorrt.plans import INDEX, read_plans

from .fake_cuda import FakeCuda
from .fake_trt import VERSIONS, FakeTensorRT


@pytest.mark.parametrize("version", VERSIONS)
def test_one_code_path_for_every_version(bundle, version):
    """A whole build asks each version for nothing but what its bindings have, and all of it is given back."""
    gpu = FakeCuda()
    trt, heard = FakeTensorRT(version, gpu), []
    report = build(bundle, Options(batches=(1, 2)), say=heard.append, trt=trt, cuda=Cuda(gpu))
    assert json.loads(json.dumps(report)) == report
    assert [(row["part"], row["batch"], row["built"]) for row in report["engines"]] == [
        (part, batch, True) for part in ("image", "text", "decoder") for batch in (1, 2)
    ]
    assert all(row["parity"]["passed"] and row["graph"] and row["ms"] > 0 for row in report["engines"])
    assert report["tensorrt"] == version and report["device"]["capability"] == 87
    assert gpu.alive() == 0, "an engine was not given back"
    assert trt.built[0]["shapes"]["pixel_values"] == [1, 3, 16, 16]
    assert {tuple(one["shapes"].get("input_ids", ())) for one in trt.built} == {(), (1, 77), (2, 77)}
    assert not any(trt.BuilderFlag.TF32 in one["flags"] for one in trt.built)


def test_the_fake_refuses_what_a_version_lacks():
    """The control of the test above."""
    trt = FakeTensorRT("11.0.0.114", FakeCuda())
    with pytest.raises(AttributeError, match="platform_has_fast_fp16"):
        _ = trt.Builder(None).platform_has_fast_fp16
    assert not hasattr(trt.BuilderFlag, "FP16") and hasattr(FakeTensorRT("10.3.0", None).BuilderFlag, "FP16")


def opened(bundle, trt, cuda, monkeypatch):
    monkeypatch.setattr(engine_of.library, "missing", lambda: None)
    monkeypatch.setattr(engine_of, "gpus", lambda: [{"name": "Orin"}])
    monkeypatch.setattr(engine_of.library, "load", lambda: trt)
    monkeypatch.setattr(engine_of, "Cuda", lambda: cuda)
    return Segmenter.open(bundle, engine="tensorrt")


def test_the_segmenter_runs_on_what_was_built(bundle, trt, cuda, gpu, colours, monkeypatch):
    build(bundle, Options(batches=(1, 2)), trt=trt, cuda=cuda)
    image, _ = colours
    with opened(bundle, trt, cuda, monkeypatch) as found, Segmenter.open(bundle, engine="onnxruntime") as expected:
        assert found.engine == "tensorrt"
        for prompt in ("red", "green spot", "a blue round one"):
            answers = [one.logits(image, prompt) for one in (found, expected)]
            np.testing.assert_allclose(*answers, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(found.segment(image, "red"), expected.segment(image, "red"))
    assert gpu.alive() == 0


def test_what_is_fresh_is_kept(bundle, trt, cuda):
    build(bundle, trt=trt, cuda=cuda)
    again = build(bundle, trt=trt, cuda=cuda)
    assert not any(row["built"] for row in again["engines"]) and len(trt.built) == 3
    forced = build(bundle, Options(again=True), trt=trt, cuda=cuda)
    assert all(row["built"] for row in forced["engines"]) and len(trt.built) == 6


def test_timings_are_kept_for_the_next_build(bundle, trt, cuda):
    build(bundle, trt=trt, cuda=cuda)
    assert trt.built[0]["cache"] == b"" and trt.built[1]["cache"] == b"timing of image;"
    (cache,) = (bundle / "engines").glob("timing-*.cache")
    assert "orin-sm87-10.16.1.11" in cache.name and cache.read_bytes().count(b";") == 3
    cache.write_bytes(b"damaged")
    build(bundle, Options(again=True), trt=trt, cuda=cuda)
    assert trt.built[3]["cache"] == b"", "timings that TensorRT refuses are dropped"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"device": "Thor"}, "built on Thor, this is Orin"),
        ({"capability": 110}, "built for sm_110, this is sm_87"),
        ({"tensorrt": "10.3.0"}, "built by TensorRT 10.3.0, this is 10.16.1.11"),
        ({"precision": "fp16"}, "built in fp16"),
        ({"onnx": "0" * 64}, "the ONNX file has changed"),
    ],
)
def test_a_stale_engine_is_never_loaded_but_built_again(bundle, trt, cuda, monkeypatch, change, words):
    build(bundle, trt=trt, cuda=cuda)
    index = read_json(bundle / INDEX)
    for one in index["engines"]:
        one["key"] |= change
    write_json(bundle / INDEX, index)
    with pytest.raises(EngineError, match=f"are stale .*{words}.*: vlseg build"):
        opened(bundle, trt, cuda, monkeypatch)
    assert all(row["built"] for row in build(bundle, trt=trt, cuda=cuda)["engines"])
    opened(bundle, trt, cuda, monkeypatch).close()


def test_an_engine_of_another_gpu_or_version(bundle, trt, cuda, monkeypatch):
    build(bundle, trt=trt, cuda=cuda)
    thor = FakeCuda("Thor", (11, 0))
    with pytest.raises(EngineError, match="built on Orin, this is Thor"):
        opened(bundle, FakeTensorRT("10.16.1.11", thor), Cuda(thor), monkeypatch)
    build(bundle, trt=FakeTensorRT("10.16.1.11", thor), cuda=Cuda(thor))
    assert len(read_plans(bundle)) == 6, "engines of both devices stay beside each other"
    opened(bundle, trt, cuda, monkeypatch).close()


@pytest.mark.parametrize("damage", ["truncated", "changed", "gone"])
def test_a_damaged_plan(bundle, trt, cuda, monkeypatch, damage):
    build(bundle, trt=trt, cuda=cuda)
    path = bundle / read_plans(bundle)[0].file
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-100] if damage == "truncated" else content[:-1] + b"x")
    words = {"truncated": "bytes, .* were built", "changed": "hash differs", "gone": "is gone"}[damage]
    with pytest.raises(EngineError, match=f"image-b1.plan.*{words}"):
        opened(bundle, trt, cuda, monkeypatch)
    assert [row["built"] for row in build(bundle, trt=trt, cuda=cuda)["engines"]] == [True, False, False]


def test_a_plan_that_tensorrt_itself_refuses(bundle, trt, cuda, gpu, monkeypatch):
    build(bundle, trt=trt, cuda=cuda)
    real = engine_of.check_file
    monkeypatch.setattr(engine_of, "check_file", lambda folder, plan: real(folder, plan)[:-9])
    with pytest.raises(EngineError, match=r"cannot load the image engine for batch 1 \(the plan is truncated\): build"):
        opened(bundle, trt, cuda, monkeypatch)
    assert gpu.alive() == 0


def test_an_index_of_nonsense(bundle, trt, cuda, monkeypatch):
    build(bundle, trt=trt, cuda=cuda)
    (bundle / INDEX).write_text('{"schema_version": 1, "engines": [{"part": "image"}]}')
    with pytest.raises(EngineError, match=r"engines.json cannot be used .*: delete"):
        opened(bundle, trt, cuda, monkeypatch)
    write_json(bundle / INDEX, {"schema_version": 9, "engines": []})
    with pytest.raises(EngineError, match="schema 9, expected 1"):
        read_plans(bundle)


def test_an_index_that_leads_outside(bundle, trt, cuda):
    build(bundle, trt=trt, cuda=cuda)
    index = read_json(bundle / INDEX)
    index["engines"][0]["file"] = "../elsewhere.plan"
    write_json(bundle / INDEX, index)
    with pytest.raises(EngineError, match="outside of the bundle"):
        read_plans(bundle)


def test_nothing_was_built(bundle, trt, cuda, monkeypatch):
    with pytest.raises(EngineError, match="has no TensorRT engine of its image part: vlseg build"):
        opened(bundle, trt, cuda, monkeypatch)


def test_onnx_that_was_edited_after_the_export(bundle, trt, cuda):
    model = onnx.load(bundle / "image.onnx")
    model.graph.node[0].name = "edited"
    onnx.save(model, bundle / "image.onnx")
    with pytest.raises(BundleError, match="hash differs"):
        build(bundle, trt=trt, cuda=cuda)
    assert not trt.built


def test_an_engine_that_answers_otherwise_is_refused_and_named(bundle, trt, cuda, gpu):
    trt.wrong = {"decoder"}
    with pytest.raises(EngineError, match=r"the decoder engine for batch 1 .*answers otherwise than ONNX Runtime"):
        build(bundle, trt=trt, cuda=cuda)
    assert [plan.part for plan in read_plans(bundle)] == ["image", "text"], "those that agreed stay"
    assert not list((bundle / "engines").glob("*/decoder*")) and gpu.alive() == 0


def test_an_unreadable_node_is_named(bundle, trt, cuda):
    model = onnx.load(bundle / "text.onnx")
    model.graph.node[0].op_type = "Unreadable"
    onnx.save(model, bundle / "text.onnx")
    _unchecked(bundle).save(bundle)
    with pytest.raises(
        EngineError, match=r"cannot read text.onnx: no importer registered \(node /layers.3/odd, operat"
    ):
        build(bundle, trt=trt, cuda=cuda)


def _unchecked(bundle):
    """Return a bundle's manifest without a look at its hashes."""
    from vlseg.deploy import manifest

    return manifest._parse(manifest._read(bundle), bundle)


FAILURES = [
    (
        [("ERROR", "IBuilder::buildSerializedNetwork: Error Code 10: Internal Error (Could not find any implementation "
          "for node {ForeignNode[layers.3/norm...layers.3/add]}.)")],
        r"cannot build the image engine for batch 1: Could not find any implementation for node {ForeignNode\[layers.3",
    ),
    ([("ERROR", "Engine could not be created now"), ("ERROR", "[a.cpp::b::7] Error Code 4: real one")], ": real one$"),
    ([], "TensorRT gave no reason"),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "words"), FAILURES)
def test_the_first_real_error_is_the_sentence(bundle, trt, cuda, lines, words):
    trt.says = [("WARNING", "some warning"), *lines]
    with pytest.raises(EngineError, match=words):
        build(bundle, trt=trt, cuda=cuda)


def test_out_of_memory_says_what_was_free_and_what_to_lower(bundle, trt, cuda):
    trt.says = [("ERROR", "Requested amount of GPU memory (8589934592 bytes) could not be allocated.")]
    with pytest.raises(
        EngineError, match=r"8192 MiB were free before, the workspace was 256 MiB.*--workspace 128 and --l"
    ):
        build(bundle, trt=trt, cuda=cuda)


def test_the_budget_is_that_of_the_device(bundle):
    found = {}
    for name, memory in {"Orin Nano": 7 << 30, "Orin": 32 << 30, "H100": 80 << 30}.items():
        gpu = FakeCuda(name, memory=memory)
        trt = FakeTensorRT("10.16.1.11", gpu)
        build(bundle, trt=trt, cuda=Cuda(gpu))
        built = trt.built[0]
        found[name] = built["pools"][trt.MemoryPoolType.WORKSPACE] // MIB, built["level"]
    assert found == {"Orin Nano": (256, 2), "Orin": (2048, 3), "H100": (4096, 4)}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options(level=6), "--level 6 does not exist: choose 0 .* to 5"),
        (Options(workspace_mib=0), "--workspace 0 is no memory"),
        (Options(batches=(0,)), "--batch 0 is no size"),
        (Options(plugins="maybe"), "no way 'maybe' for our kernels; known: measure, on, off"),
    ],
)
def test_bad_options(bundle, trt, cuda, options, words):
    with pytest.raises(UserError, match=words):
        build(bundle, options, trt=trt, cuda=cuda)


@pytest.fixture
def listening():
    """A process that hears Ctrl-C, as one that a shell started in the background does not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_leaves_nothing_half_written(bundle, trt, cuda, gpu, listening):
    """Ctrl-C in the middle of the second engine: the first stays, the second leaves no trace."""

    def press(step):
        if len(trt.used) == 1 and step == 1:
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(0.3)

    trt.steps = press
    with pytest.raises(KeyboardInterrupt, match="the build was stopped; nothing of the engine in progress was written"):
        build(bundle, trt=trt, cuda=cuda)
    assert [plan.part for plan in read_plans(bundle)] == ["image"] and len(trt.used) == 1
    assert [path.name for path in (bundle / "engines").glob("*/*")] == ["image-b1.plan"] and gpu.alive() == 0
    trt.steps = None
    assert [row["built"] for row in build(bundle, trt=trt, cuda=cuda)["engines"]] == [False, True, True]


def test_progress_is_that_of_the_outermost_phase(bundle, trt, cuda):
    told = []
    build(bundle, tell=lambda *step: told.append(step), trt=trt, cuda=cuda)
    assert told == [(1, 3), (2, 3), (3, 3), (3, 3)] * 3


def test_no_gpu(bundle, trt):
    gpu = FakeCuda(absent=True)
    with pytest.raises(EngineError, match=r"CUDA finds no GPU .*cudaErrorInsufficientDriver.*vlseg doctor"):
        build(bundle, trt=trt, cuda=Cuda(gpu))


@pytest.mark.parametrize(
    ("version", "words"), [("8.6.1", "too old, expected 10.3"), ("12.0.0", "newer than this vlseg")]
)
def test_a_tensorrt_that_is_too_old_or_too_new(bundle, trt, cuda, version, words):
    trt.__version__ = version
    with pytest.raises(EngineError, match=words):
        build(bundle, trt=trt, cuda=cuda)


def test_an_opset_that_the_parser_lacks(bundle, cuda, gpu):
    replace(Manifest.load(bundle), opset=23).save(bundle)
    with pytest.raises(EngineError, match=r"opset 23, TensorRT 10\.3\.0 reads up to 20: export it with opset 20"):
        build(bundle, trt=FakeTensorRT("10.3.0", gpu), cuda=cuda)
    build(bundle, trt=FakeTensorRT("10.16.1.11", gpu), cuda=cuda)


@pytest.mark.parametrize(
    ("precision", "capability", "said"),
    [
        ("fp8", (8, 7), r"is in fp8, and sm_87 has no fp8: export with --precision fp16 or int8-fp16"),
        ("int8-fp16", (7, 0), r"sm_70 has no int8: export with --precision fp16$"),
    ],
)
def test_numbers_that_the_gpu_has_no_units_for(bundle, precision, capability, said):
    gpu = FakeCuda(capability=capability)
    trt = FakeTensorRT("10.16.1.11", gpu)
    replace(Manifest.load(bundle), precision=precision).save(bundle)
    with pytest.raises(EngineError, match=said):
        build(bundle, trt=trt, cuda=Cuda(gpu))
    assert not trt.built
    newer = FakeCuda(capability=(11, 0))
    assert build(bundle, trt=FakeTensorRT("10.16.1.11", newer), cuda=Cuda(newer))["engines"]


def test_a_bundle_from_before_answers_were_kept(toy_bundle, trt, cuda):
    with pytest.raises(EngineError, match=r"has no answers.npz to prove engines by: export it again"):
        build(toy_bundle, trt=trt, cuda=cuda)


def test_weights_that_may_be_exchanged(bundle, trt, cuda):
    build(bundle, Options(refit={"text": ("table",)}), trt=trt, cuda=cuda)
    assert [one["refit"] for one in trt.built] == [[], ["table"], []]
    assert trt.BuilderFlag.REFIT_INDIVIDUAL in trt.built[1]["flags"] - trt.built[0]["flags"]
    assert read_plans(bundle)[1].key.refit == ("table",)
    with pytest.raises(EngineError, match="no weights 'other' that could be exchanged"):
        build(bundle, Options(refit={"text": ("other",)}), trt=trt, cuda=cuda)


def test_thor_is_built_around_its_fault(bundle, monkeypatch):
    monkeypatch.delenv("__LUNOWUD", raising=False)
    gpu, heard = FakeCuda("NVIDIA Thor", (11, 0)), []
    report = build(bundle, say=heard.append, trt=FakeTensorRT("10.13.3.9", gpu), cuda=Cuda(gpu))
    assert os.environ["__LUNOWUD"] == "-peep:fc_h_fusion=off" and "horizontal fusion is turned off" in heard[0]
    assert len(report["remedies"]) == 1
    monkeypatch.delenv("__LUNOWUD")
    assert build(bundle, trt=FakeTensorRT("10.16.1.11", gpu), cuda=Cuda(gpu))["remedies"] == []
    assert "__LUNOWUD" not in os.environ


def test_no_picture_is_in_the_answers(bundle):
    """Only drawn ones: the same in every bundle."""
    from vlseg.deploy.drawn import draw_cases
    from vlseg.deploy.pixels import to_input
    from vlseg.deploy.tensorrt.answers import read_answers

    manifest = Manifest.load(bundle)
    answers = read_answers(bundle, manifest)
    drawn = [to_input(case.image, manifest.image_size, manifest.mean, manifest.std) for case in draw_cases(2)]
    np.testing.assert_array_equal(answers["pixel_values"], drawn)
    assert set(answers) == {name for part in manifest.flow.values() for ends in part.values() for name in ends}
