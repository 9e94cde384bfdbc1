"""The builder's code path against a TensorRT that is real: TensorRT-RTX's compiler, which needs no GPU to build.

Its parser, progress monitor and errors are those of TensorRT; it has no timing cache, and says so by a warning.
"""

import os
import signal
from dataclasses import replace

import onnx
import pytest

from vlseg.deploy import rtx
from vlseg.deploy.errors import EngineError
from vlseg.deploy.manifest import Manifest
from vlseg.deploy.tensorrt.budget import MIB, Budget
from vlseg.deploy.tensorrt.compile import compile_engine, order_of
from vlseg.deploy.tensorrt.plans import Here, key_of

if lacks := rtx.missing():
    pytest.skip(lacks, allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore:.*TensorRT-RTX:DeprecationWarning")


@pytest.fixture(scope="module")
def trt():
    return rtx.load()


@pytest.fixture
def order(exported, trt, tmp_path):
    """A function from a part to what is to be built of it."""
    folder = exported[1]
    manifest, here = Manifest.load(folder), Here("none", 86, trt.__version__)

    def make(part, batch=1, plugins=False):
        key = key_of(manifest, part, here, batch, plugins)
        return order_of(folder, manifest, part, key, Budget(256 * MIB, 3), tmp_path / "engines" / "timing.cache")

    return make


@pytest.mark.parametrize("part", ["image", "text", "decoder"])
def test_every_part_becomes_an_engine(trt, order, part):
    """With the attribute that names a plugin and without: where none is registered, the function is taken."""
    told = []
    sizes = set()
    for plugins in (False, True):
        data, seconds = compile_engine(trt, order(part, 2, plugins), 0, lambda *step: told.append(step))
        sizes.add(len(data) // 1000)
        assert len(data) > 10_000 and seconds > 0
    assert len(sizes) == 1 and told[-1][0] == told[-1][1] > 1
    assert [done for done, _ in told[: len(told) // 2]] == sorted(done for done, _ in told[: len(told) // 2])


@pytest.fixture
def listening():
    """A process that hears Ctrl-C, as one that a shell started in the background does not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_stops_the_real_builder(trt, order, listening):
    pressed = []

    def press(done, total):
        if not pressed:
            pressed.append(done)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="the build was stopped"):
        compile_engine(trt, order("image"), 0, press)
    assert pressed and not order("image").timings.exists()


def test_a_real_parser_error_is_one_sentence(trt, order, tmp_path):
    wanted = order("image")
    model = onnx.load(wanted.path)
    node = next(node for node in model.graph.node if node.op_type == "Softmax")
    node.op_type, node.name = "NoSuchOperator", "/attention/odd"
    onnx.save(model, tmp_path / "image.onnx")
    with pytest.raises(
        EngineError, match=r"cannot read image\.onnx: .*\(node /attention/odd, operator NoSuchOperator\)"
    ):
        compile_engine(trt, replace(wanted, path=tmp_path / "image.onnx"), 0, lambda *step: None)


def test_a_shape_that_does_not_fit_is_one_sentence(trt, order):
    wanted = order("decoder")
    dims = {name: (shape[0] + (name == "text_embedding"), *shape[1:]) for name, shape in wanted.dims.items()}
    dims["image_embedding"] = (*dims["image_embedding"][:-1], 7)
    with pytest.raises(EngineError, match=r"cannot build the decoder engine for batch 1: .+"):
        compile_engine(trt, replace(wanted, dims=dims), 0, lambda *step: None)
