import platform
import resource
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from vlseg.deploy import engine
from vlseg.deploy.engine import Kind, available_engines, choose_engine, open_engines
from vlseg.deploy.engines import cuda
from vlseg.deploy.engines.cuda import CudaRuntime
from vlseg.deploy.engines.ort import OnnxRuntime
from vlseg.deploy.errors import EngineError
from vlseg.deploy.manifest import Manifest


def pixel_values(batch=1):
    return np.random.default_rng(batch).normal(size=(batch, 3, 16, 16)).astype(np.float32)


@pytest.mark.parametrize("threads", [None, 1, 2])
@pytest.mark.parametrize("batch", [1, 3])
def test_it_computes(toy_bundle, threads, batch):
    values = pixel_values(batch)
    with OnnxRuntime(toy_bundle / "image.onnx", threads) as runtime:
        out = runtime.run({"pixel_values": values})
    expected = values.reshape(batch, 3, 256).transpose(0, 2, 1)[:, None].repeat(3, axis=1)
    assert list(out) == ["image_embedding"] and np.array_equal(out["image_embedding"], expected)


def test_a_closed_engine_says_so(toy_bundle):
    runtime = OnnxRuntime(toy_bundle / "image.onnx")
    runtime.close()
    runtime.close()
    with pytest.raises(EngineError, match=r"image\.onnx is closed"):
        runtime.run({"pixel_values": pixel_values()})


@pytest.mark.parametrize(
    "inputs",
    [
        {"pixel_values": np.zeros((1, 3, 8, 8), np.float32)},
        {"pixel_values": np.zeros((1, 3, 16, 16), np.float64)},
        {"pixels": np.zeros((1, 3, 16, 16), np.float32)},
        {},
    ],
)
def test_inputs_that_do_not_fit_are_named(toy_bundle, inputs):
    with (
        OnnxRuntime(toy_bundle / "image.onnx") as runtime,
        pytest.raises(EngineError, match=r"cannot run image\.onnx on"),
    ):
        runtime.run(inputs)


@pytest.mark.parametrize("change", ["cut", "empty", "noise", "opset", "absent"])
def test_a_file_it_cannot_open(toy_bundle, change):
    path = toy_bundle / "decoder.onnx"
    data = path.read_bytes()
    if change == "opset":
        model = onnx.load(path)
        model.opset_import[0].version = 999
        onnx.save(model, path)
    elif change == "absent":
        path.unlink()
    else:
        path.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "noise": b"\xff" * 100}[change])
    with pytest.raises(EngineError, match=r"onnxruntime cannot open .*decoder\.onnx"):
        OnnxRuntime(path)


def test_open_engines_opens_the_parts(toy_bundle, fixed_bundle):
    engines = open_engines(toy_bundle, Manifest.load(toy_bundle), "onnxruntime")
    assert list(engines) == ["image", "text", "decoder"]
    assert {one.name for one in engines.values()} == {"onnxruntime"}
    assert list(open_engines(fixed_bundle, Manifest.load(fixed_bundle))) == ["image", "decoder"]


def test_parts_are_opened_at_once_where_the_engine_allows_it(toy_bundle, monkeypatch):
    all_there = threading.Barrier(3, timeout=10)

    def opener(part):
        all_there.wait()
        return SimpleNamespace(name=part.name, close=lambda: None)

    monkeypatch.setitem(engine.ENGINES, "onnxruntime", Kind("onnxruntime", opener, lambda: None, at_once=True))
    opened = open_engines(toy_bundle, Manifest.load(toy_bundle), "onnxruntime")
    assert [(part, one.name) for part, one in opened.items()] == [(part, part) for part in ("image", "text", "decoder")]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps it, and gives it back when told")
def test_what_opening_freed_goes_back_to_the_system(toy_bundle, monkeypatch):
    kept = []

    def opener(part):
        blocks = [bytes(100_000) for _ in range(500)]
        kept.append(blocks[::50])  # holes between them, which no thread gives back by itself
        return SimpleNamespace(name=part.name, close=lambda: None)

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

    monkeypatch.setitem(engine.ENGINES, "onnxruntime", Kind("onnxruntime", opener, lambda: None, at_once=True))
    before = resident()
    open_engines(toy_bundle, Manifest.load(toy_bundle), "onnxruntime")
    assert resident() - before < 20  # MiB, of 50 to 140


@pytest.mark.parametrize("at_once", [False, True])
def test_what_was_opened_is_closed_when_the_next_fails(toy_bundle, monkeypatch, at_once):
    closed = []

    def opener(part):
        if part.name == "decoder":
            raise EngineError("no")
        return SimpleNamespace(name="x", close=lambda: closed.append(part.path.name))

    monkeypatch.setitem(engine.ENGINES, "onnxruntime", Kind("onnxruntime", opener, lambda: None, at_once=at_once))
    with pytest.raises(EngineError, match="no"):
        open_engines(toy_bundle, Manifest.load(toy_bundle), "onnxruntime")
    assert sorted(closed) == ["image.onnx", "text.onnx"]


def test_an_unknown_engine_names_the_known():
    with pytest.raises(EngineError, match=r"no engine 'tensorflow'; known: auto, .*onnxruntime-cuda.*, onnxruntime"):
        choose_engine("tensorflow")


def fake_runtime(monkeypatch, providers, gpus):
    monkeypatch.setattr(cuda, "onnxruntime", lambda: SimpleNamespace(get_available_providers=lambda: providers))
    monkeypatch.setattr(cuda, "gpus", lambda: gpus)


@pytest.mark.parametrize(
    ("cuda", "gpu", "expected"),
    [
        (False, False, ["onnxruntime"]),
        (False, True, ["onnxruntime"]),
        (True, False, ["onnxruntime"]),
        (True, True, ["onnxruntime-cuda", "onnxruntime"]),
    ],
)
def test_auto_goes_by_facts(monkeypatch, cuda, gpu, expected):
    providers = [*(["CUDAExecutionProvider"] if cuda else []), "CPUExecutionProvider"]
    fake_runtime(monkeypatch, providers, [{"name": "x"}] if gpu else [])
    assert [name for name in available_engines() if not engine.ENGINES[name].by_name_only] == expected
    assert choose_engine("auto") == expected[0]
    assert choose_engine("onnxruntime") == "onnxruntime"


def test_without_onnx_runtime_the_install_line_is_given(toy_bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert not [name for name in available_engines() if name.startswith("onnxruntime")]
    for name in ("auto", "onnxruntime"):
        with pytest.raises(EngineError, match=r'not installed: pip install "vlseg\[cpu\]"'):
            open_engines(toy_bundle, Manifest.load(toy_bundle), name)


def test_a_provider_that_is_not_installed_is_an_error(toy_bundle):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(EngineError, match="has no CUDAExecutionProvider: `vlseg doctor`"):
        CudaRuntime(toy_bundle / "image.onnx")


def test_a_provider_that_does_not_start_is_an_error(toy_bundle, monkeypatch):
    """ONNX Runtime itself would go on, on the CPU."""
    import onnxruntime

    def session(path, options, providers, enable_fallback):
        return SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    with pytest.raises(EngineError, match=r"CUDAExecutionProvider did not start.*vlseg doctor"):
        CudaRuntime(toy_bundle / "image.onnx")


@pytest.mark.gpu
@pytest.mark.skipif("onnxruntime-cuda" not in available_engines(), reason="no ONNX Runtime with CUDA and a GPU")
def test_cuda_gives_what_the_cpu_gives(toy_bundle):
    values = {"pixel_values": pixel_values(2)}
    outs = [one(toy_bundle / "image.onnx").run(values) for one in (CudaRuntime, OnnxRuntime)]
    assert np.array_equal(outs[0]["image_embedding"], outs[1]["image_embedding"])


def test_its_threads_rest_once_the_call_is_over(toy_bundle):
    with OnnxRuntime(toy_bundle / "image.onnx", 2) as runtime:
        runtime.run({"pixel_values": pixel_values(64)})
        before = time.process_time()
        time.sleep(0.2)
        assert time.process_time() - before < 0.01  # left alone, ONNX Runtime's would spin for some 30 ms


def test_one_session_many_threads(toy_bundle):
    wrong = []
    with OnnxRuntime(toy_bundle / "image.onnx", 1) as runtime:

        def ask(i):
            values = pixel_values(1 + i % 3)
            for _ in range(20):
                out = runtime.run({"pixel_values": values})["image_embedding"]
                if not np.array_equal(out[:, 0].transpose(0, 2, 1).reshape(values.shape), values):
                    wrong.append(i)

        workers = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert not wrong
