"""The binding runs for real, on CPU memory; capture is held against a stand-in that counts."""

from types import SimpleNamespace

import numpy as np
import pytest

from vlseg.deploy.engine import choose_engine
from vlseg.deploy.engines import cuda
from vlseg.deploy.engines.cuda import CudaGraphRuntime, CudaRuntime
from vlseg.deploy.engines.ort import OnnxRuntime
from vlseg.deploy.engines.protocol import Splits
from vlseg.deploy.errors import EngineError


class OnCpu:
    device = "cpu"

    def providers(self, options):
        self.asked = options
        return ["CPUExecutionProvider"]


class Bound(OnCpu, CudaRuntime):
    pass


class Graphed(OnCpu, CudaGraphRuntime):
    pass


def pixel_values(batch=1, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, 3, 16, 16)).astype(np.float32)


@pytest.mark.parametrize("kind", [Bound, Graphed])
def test_bound_memory_gives_what_a_plain_run_gives(toy_bundle, kind):
    with kind(toy_bundle / "image.onnx", 1) as engine, OnnxRuntime(toy_bundle / "image.onnx", 1) as plain:
        for batch, seed in [(1, 0), (3, 1), (1, 2), (3, 3)]:
            inputs = {"pixel_values": pixel_values(batch, seed)}
            out, expected = engine.run(inputs), plain.run(inputs)
            assert list(out) == list(expected)
            assert all(np.array_equal(out[name], expected[name]) for name in out)


def test_an_answer_is_not_overwritten_by_the_next(toy_bundle):
    with Graphed(toy_bundle / "image.onnx", 1) as engine:
        first = engine.run({"pixel_values": pixel_values(seed=0)})["image_embedding"]
        kept = first.copy()
        engine.run({"pixel_values": pixel_values(seed=1)})
        assert np.array_equal(first, kept)


@pytest.mark.parametrize("kind", [Bound, Graphed])
def test_the_time_is_split(toy_bundle, kind):
    with kind(toy_bundle / "image.onnx", 1) as engine:
        assert isinstance(engine, Splits)
        _, found = engine.run_split({"pixel_values": pixel_values()})
        assert list(found) == ["h2d", "compute", "d2h"] and all(value >= 0 for value in found.values())


def test_fp32_stays_fp32_and_graphs_are_asked_for(toy_bundle):
    assert Bound(toy_bundle / "image.onnx").asked == {"use_tf32": "0"}
    assert Graphed(toy_bundle / "image.onnx").asked == {"use_tf32": "0", "enable_cuda_graph": "1"}


def test_a_free_length_is_not_captured(toy_bundle):
    with Graphed(toy_bundle / "text.onnx", 1) as text, Graphed(toy_bundle / "image.onnx", 1) as image:
        assert image.captures and not text.captures
        for length in (2, 5):
            words = np.ones((1, length), np.int64)
            text.run({"input_ids": words, "attention_mask": words})
        assert not text._captured


def test_one_graph_for_each_shape_and_ids_apart(toy_bundle, monkeypatch):
    ids = []
    with Graphed(toy_bundle / "image.onnx", 1) as engine:
        options = engine._options
        monkeypatch.setattr(engine, "_options", lambda graph: ids.append(graph) or options(graph))
        for batch in (1, 2, 1, 2, 1):
            engine.run({"pixel_values": pixel_values(batch)})
        assert ids == ["-1", "1", "-1", "2"]
        held = list(engine._captured.values())
        assert [one.inputs["pixel_values"].shape() for one in held] == [[1, 3, 16, 16], [2, 3, 16, 16]]


def test_a_replay_writes_where_the_graph_reads(toy_bundle):
    with Graphed(toy_bundle / "image.onnx", 1) as engine:
        engine.run({"pixel_values": pixel_values(seed=0)})
        (one,) = engine._captured.values()
        places = [value.data_ptr() for value in (*one.inputs.values(), *one.outputs.values())]
        engine.run({"pixel_values": pixel_values(seed=5)})
        assert [value.data_ptr() for value in (*one.inputs.values(), *one.outputs.values())] == places


@pytest.mark.parametrize("kind", [Bound, Graphed])
@pytest.mark.parametrize("inputs", [{"pixel_values": np.zeros((1, 3, 8, 8), np.float32)}, {"x": np.zeros(1)}, {}])
def test_inputs_that_do_not_fit_are_named(toy_bundle, kind, inputs):
    with kind(toy_bundle / "image.onnx", 1) as engine, pytest.raises(EngineError, match=r"cannot run image\.onnx on"):
        engine.run(inputs)


def test_a_closed_engine_says_so(toy_bundle):
    engine = Graphed(toy_bundle / "image.onnx", 1)
    engine.close()
    with pytest.raises(EngineError, match=r"image\.onnx is closed"):
        engine.run({"pixel_values": pixel_values()})


def test_auto_never_takes_the_graph(monkeypatch):
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(cuda, "onnxruntime", lambda: SimpleNamespace(get_available_providers=lambda: providers))
    monkeypatch.setattr(cuda, "gpus", lambda: [{"name": "x", "compute_cap": "8.6"}])
    assert choose_engine() == "onnxruntime-cuda" and cuda.GRAPH.missing() is None
