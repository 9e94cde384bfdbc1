"""Where the time of a TensorRT run goes, and what the CUDA graph is worth: contract-tested, no GPU here."""

import numpy as np
import pytest

from vlseg.deploy.engine import ENGINES
from vlseg.deploy.engines.protocol import Part, Splits
from vlseg.deploy.engines.trt import open_part
from vlseg.deploy.errors import EngineError
from vlseg.deploy.manifest import Manifest
from vlseg.deploy.tensorrt.build import Options, build


@pytest.fixture
def opened(bundle, trt, cuda):
    build(bundle, Options(batches=(1, 2)), trt=trt, cuda=cuda)
    part = Part(bundle, Manifest.load(bundle), "text")
    engines = [open_part(part, trt, cuda, graph) for graph in (True, False)]
    yield engines
    for one in engines:
        one.close()


def words(rows):
    ids = np.random.default_rng(rows).integers(2, 8, (rows, 5))
    return {"input_ids": ids, "attention_mask": np.ones((rows, 5), np.int64)}


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_a_split_run_gives_what_a_run_gives(opened, rows):
    for engine in opened:
        assert isinstance(engine, Splits)
        out, ms = engine.run_split(words(rows))
        assert np.array_equal(out["text_embedding"], engine.run(words(rows))["text_embedding"])
        assert list(ms) == ["h2d", "enqueue", "compute", "d2h"] and all(value >= 0 for value in ms.values())
        assert ms["enqueue"] <= ms["compute"]


def test_the_graph_can_be_left_out(opened, gpu):
    graphed, plain = opened
    assert (graphed.name, plain.name) == ("tensorrt", "tensorrt-no-graph")
    for engine, launches in ((graphed, 1), (plain, 0)):
        gpu.calls.clear()
        engine.run(words(1))
        assert gpu.calls.count("launch") == launches
    assert ENGINES["tensorrt-no-graph"].by_name_only


def test_a_closed_engine_says_so(opened):
    opened[0].close()
    with pytest.raises(EngineError, match="is closed"):
        opened[0].run_split(words(1))
