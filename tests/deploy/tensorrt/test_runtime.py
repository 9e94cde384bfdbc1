import importlib
import threading

import numpy as np
import pytest

from vlseg.deploy.engines.protocol import Part
from vlseg.deploy.engines.trt import TensorRT, open_part
from vlseg.deploy.errors import EngineError
from vlseg.deploy.manifest import Manifest
from vlseg.deploy.tensorrt import cuda as cuda_of
from vlseg.deploy.tensorrt import library
from vlseg.deploy.tensorrt.build import Options, build
from vlseg.deploy.tensorrt.cuda import Cuda
from vlseg.deploy.tensorrt.log import ear
from vlseg.deploy.tensorrt.plans import check_file, read_plans
from vlseg.deploy.tensorrt.runtime import Static, names

from .fake_cuda import FakeCuda


@pytest.fixture
def engines(bundle, trt, cuda):
    """A function from a part and batch sizes to its engine on what was built."""
    build(bundle, Options(batches=(1, 2, 4)), trt=trt, cuda=cuda)
    manifest, opened = Manifest.load(bundle), []

    def engine(part, *batches, graph=True):
        plans = {plan.key.batch: plan for plan in read_plans(bundle) if plan.part == part}
        made = {
            size: Static(trt, cuda, ear(trt), check_file(bundle, plans[size]), names(plans[size]), graph)
            for size in batches
        }
        opened.append(TensorRT(part, made, manifest.axes[part], manifest.flow[part]["outputs"]))
        return opened[-1]

    yield engine
    for one in opened:
        one.close()


def words(rows, length=5):
    draw = np.random.default_rng(rows)
    ids = draw.integers(2, 8, (rows, length))
    ids[:, -1] = 1
    return {"input_ids": ids, "attention_mask": np.ones((rows, length), np.int64)}


def answer(bundle, part, inputs):
    from vlseg.deploy.engines.ort import OnnxRuntime

    return OnnxRuntime(bundle / f"{part}.onnx").run(inputs)


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 11])
def test_any_batch_is_cut_into_the_sizes_that_were_built(bundle, engines, gpu, rows, graph):
    engine, inputs = engines("text", 1, 2, 4, graph=graph), words(rows)
    gpu.calls.clear()
    found = engine.run(inputs)["text_embedding"]
    np.testing.assert_allclose(found, answer(bundle, "text", inputs)["text_embedding"], rtol=1e-6)
    assert gpu.calls.count("wait") == {1: 1, 2: 1, 3: 2, 5: 2, 8: 2, 11: 4}[rows]
    assert gpu.calls.count("launch") == (gpu.calls.count("wait") if graph else 0)


def test_a_last_piece_is_filled_up(bundle, engines):
    engine, inputs = engines("text", 4), words(6)
    found = engine.run(inputs)["text_embedding"]
    assert len(found) == 6
    np.testing.assert_allclose(found, answer(bundle, "text", inputs)["text_embedding"], rtol=1e-6)


def test_an_answer_is_not_overwritten_by_the_next(engines):
    engine = engines("text", 1)
    first = engine.run(words(1))["text_embedding"]
    kept = first.copy()
    engine.run({**words(1), "input_ids": np.array([[0, 3, 3, 3, 1]])})
    np.testing.assert_array_equal(first, kept)


def test_several_threads_take_turns(bundle, engines):
    engine, expected = engines("text", 1, 2), {}
    for rows in (1, 2, 3, 4):
        expected[rows] = answer(bundle, "text", words(rows))["text_embedding"]
    wrong = []

    def ask(rows):
        for _ in range(20):
            if not np.allclose(engine.run(words(rows))["text_embedding"], expected[rows], rtol=1e-6):
                wrong.append(rows)

    threads = [threading.Thread(target=ask, args=(rows,)) for rows in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        (words(1, 78), "input_ids has 78 tokens, the engine was built for at most 77"),
        ({**words(1), "pixels": np.zeros((1, 2))}, "the text engine has no input 'pixels'"),
        ({"input_ids": words(1)["input_ids"]}, r"takes attention_mask \(1, 77\), it is missing"),
        ({**words(2), "attention_mask": np.ones((1, 5), np.int64)}, "as many rows of each input"),
        (words(0), "at least one"),
    ],
)
def test_what_exceeds_an_engine_is_said(engines, inputs, sentence):
    with pytest.raises(EngineError, match=sentence):
        engines("text", 1).run(inputs)


def test_another_picture_size(engines):
    with pytest.raises(EngineError, match=r"pixel_values is \(1, 3, 8, 8\), the image engine was built for"):
        engines("image", 1).run({"pixel_values": np.zeros((1, 3, 8, 8), np.float32)})


def test_weights_that_come_with_a_run_are_exchanged_once(bundle, trt, cuda, gpu):
    """What `Segmenter.use` does to an engine: the tensors of an adapter are further inputs of every run."""
    from onnx import load, numpy_helper

    build(bundle, Options(batches=(1, 2), refit={"text": ("table",)}), trt=trt, cuda=cuda)
    engine = open_part(Part(bundle, Manifest.load(bundle), "text"), trt, cuda)
    assert engine.swaps
    (table,) = [t for t in load(bundle / "text.onnx").graph.initializer if t.name == "table"]
    first = numpy_helper.to_array(table)
    for weights in (first * 2, first * 3, first):
        for rows in (1, 3):
            inputs = words(rows)
            expected = answer(bundle, "text", inputs)["text_embedding"] * (weights.max() / first.max())
            for _ in range(2):
                found = engine.run({**inputs, "table": weights})["text_embedding"]
                np.testing.assert_allclose(found, expected, rtol=1e-5)
    exchanged = trt.refitted
    engine.run({**words(1), "table": first})
    assert trt.refitted == exchanged == 3 * 2, "once for each adapter and built size"
    with pytest.raises(EngineError, match="takes all 1 weights of an adapter, always"):
        engine.run(words(1))
    engine.close()
    assert gpu.alive() == 0


def test_weights_that_were_not_meant_to_be_exchanged(bundle, trt, cuda, gpu):
    build(bundle, trt=trt, cuda=cuda)
    engine = open_part(Part(bundle, Manifest.load(bundle), "text"), trt, cuda)
    assert not engine.swaps
    with pytest.raises(EngineError, match="the text engine has no input 'table'"):
        engine.run({**words(1), "table": np.zeros((8, 6), np.float32)})
    (plan,) = [plan for plan in read_plans(bundle) if plan.part == "text"]
    static = Static(trt, cuda, ear(trt), check_file(bundle, plan), names(plan))
    with pytest.raises(EngineError, match=r"cannot exchange weights of the text engine .*Weights table are not refitt"):
        static.refit({"table": np.zeros((8, 6), np.float32)})
    engine.close()
    assert gpu.alive() == 0


def test_a_closed_engine_says_so_and_gave_all_back(engines, gpu):
    engine = engines("text", 1, 2)
    assert gpu.alive() > 0
    engine.close()
    engine.close()
    assert gpu.alive() == 0
    with pytest.raises(EngineError, match="is closed: open the bundle again"):
        engine.run(words(1))


def test_a_gpu_without_memory_left(bundle, trt, cuda, gpu):
    build(bundle, trt=trt, cuda=cuda)
    plan = read_plans(bundle)[0]
    gpu.memory = 1500
    with pytest.raises(EngineError, match="the GPU has no memory left: close other programs"):
        Static(trt, cuda, ear(trt), check_file(bundle, plan), names(plan))
    assert gpu.alive() == 0


def test_an_engine_that_cannot_be_recorded_is_launched_call_by_call(bundle, trt, gpu, cuda):
    gpu.captures, heard = False, []
    report = build(bundle, say=heard.append, trt=trt, cuda=cuda)
    assert not any(row["graph"] for row in report["engines"]) and not any(plan.graph for plan in read_plans(bundle))
    assert any("cannot be replayed from a CUDA graph (CUDA failed in cudaStreamBeginCapture" in said for said in heard)
    assert gpu.alive() == 0


def test_cuda_that_is_not_installed(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(cuda_of.importlib, "import_module", absent)
    with pytest.raises(EngineError, match="needs cuda-bindings, which is not installed"):
        Cuda()


def test_tensorrt_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(library, "_there", lambda name: False)
    assert library.missing() == library.INSTALL
    with pytest.raises(EngineError, match="TensorRT is not installed: on a Jetson it comes with JetPack"):
        library.load()
    monkeypatch.setattr(library, "_there", lambda name: name == "tensorrt")
    assert library.missing() == library.CUDA_INSTALL


def test_the_fake_has_the_names_of_cuda_bindings():
    runtime = importlib.import_module("cuda.bindings.runtime") if library._there("cuda.bindings") else None
    if runtime is None:
        pytest.skip("cuda-bindings is not installed")
    ours = [name for name in vars(FakeCuda) if name.startswith("cuda")]
    assert len(ours) > 15 and all(hasattr(runtime, name) for name in ours)
    assert runtime.cudaMemcpyKind.cudaMemcpyHostToDevice == 1 and runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost == 2
    assert hasattr(runtime.cudaStreamCaptureMode, "cudaStreamCaptureModeThreadLocal")
    assert runtime.cudaError_t(2).name == "cudaErrorMemoryAllocation"
    if int(runtime.cudaGetDeviceCount()[0]):  # no GPU here: the real library says so through ours
        with pytest.raises(EngineError, match="CUDA finds no GPU that it can use"):
            Cuda(runtime).device()
