import subprocess
import sys
from threading import Thread

import numpy as np
import pytest

from vlseg.deploy.bench.plan import Plan, Subject
from vlseg.deploy.bench.profile import profile
from vlseg.deploy.bench.tasks import draw_image
from vlseg.deploy.engine import available_engines, choose_engine, open_engines
from vlseg.deploy.engines import openvino
from vlseg.deploy.engines.openvino import OpenVino
from vlseg.deploy.errors import EngineError
from vlseg.deploy.manifest import Manifest
from vlseg.deploy.segmenter import Segmenter


@pytest.fixture
def library():
    return pytest.importorskip("openvino", reason="the yardstick OpenVINO is not installed")


def pixel_values(seed=0):
    return np.random.default_rng(seed).normal(size=(1, 3, 16, 16)).astype(np.float32)


def test_absent_it_says_what_to_install(toy_bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineError, match=r'pip install "vlseg\[openvino\]"'):
        open_engines(toy_bundle, Manifest.load(toy_bundle), "openvino")
    assert "openvino" not in available_engines()


def test_it_draws_what_onnx_runtime_draws(library, toy_bundle, colours):
    image, masks = colours
    with Segmenter.open(toy_bundle, "openvino", 1) as one, Segmenter.open(toy_bundle, "onnxruntime", 1) as other:
        assert one.engine == "openvino"
        for prompt in masks:
            np.testing.assert_allclose(one.logits(image, prompt), other.logits(image, prompt), rtol=1e-4, atol=1e-4)


def test_its_counters_tell_each_node(library, toy_bundle):
    times = openvino.node_times(toy_bundle / "image.onnx", 1, {"pixel_values": pixel_values()}, 3)
    assert len({name for name, _ in times}) == len(times) > 0
    assert all(0 < ms < 1e3 for _, ms in times)


def test_a_profile_tells_what_is_inside_each_part(library, toy_bundle, tmp_path):
    plan, picture = Plan(repeats=2, warmup=1), draw_image(tmp_path / "x.png")
    with Segmenter.open(toy_bundle, "openvino", 1) as segmenter:
        rows = profile(Subject("toy", segmenter), toy_bundle, plan, picture, 1)
    assert {row["part"] for row in rows if row["inside"]} == {"image", "text", "decoder"}
    assert sum(row["ms"] for row in rows if row["inside"]) == pytest.approx(
        sum(row["ms"] for row in rows if row["part"] in ("image", "text", "decoder") and not row["inside"])
    )


def test_ctrl_c_after_closing_is_ctrl_c(library, toy_bundle):
    code = f"""
import gc, os, signal
from vlseg.deploy.engines.openvino import OpenVino
signal.signal(signal.SIGINT, signal.default_int_handler)
opened = [OpenVino({str(toy_bundle / "image.onnx")!r}, 1) for _ in range(3)]
while opened:
    opened.pop(0).close()
gc.collect()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


def test_auto_never_takes_a_yardstick(library):
    assert "openvino" in available_engines() and choose_engine() != "openvino"


def test_an_answer_is_not_overwritten_by_the_next(library, toy_bundle):
    with OpenVino(toy_bundle / "image.onnx", 1) as engine:
        first = engine.run({"pixel_values": pixel_values(0)})["image_embedding"]
        kept = first.copy()
        engine.run({"pixel_values": pixel_values(1)})
        assert np.array_equal(first, kept)


def test_many_threads_do_not_cross(library, toy_bundle):
    wrong = []
    with OpenVino(toy_bundle / "image.onnx", 1) as engine:

        def ask(seed):
            values = pixel_values(seed)
            for _ in range(20):
                out = engine.run({"pixel_values": values})["image_embedding"]
                if not np.array_equal(out[:, 0].transpose(0, 2, 1).reshape(values.shape), values):
                    wrong.append(seed)

        workers = [Thread(target=ask, args=(seed,)) for seed in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert not wrong


@pytest.mark.parametrize(
    "inputs",
    [
        {"pixel_values": np.zeros((1, 3, 8, 8), np.float32)},
        {"pixel_values": np.zeros((1, 3, 16, 16), np.float64)},
        {"x": np.zeros(1, np.float32)},
        {},
    ],
)
def test_inputs_that_do_not_fit_are_named(library, toy_bundle, inputs):
    with (
        OpenVino(toy_bundle / "image.onnx", 1) as engine,
        pytest.raises(EngineError, match=r"cannot run image\.onnx on"),
    ):
        engine.run(inputs)


def test_a_file_it_cannot_open(library, tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(EngineError, match="openvino cannot open"):
        OpenVino(tmp_path / "x.onnx")


def test_closed_it_says_so(library, toy_bundle):
    engine = OpenVino(toy_bundle / "image.onnx", 1)
    engine.close()
    with pytest.raises(EngineError, match="is closed"):
        engine.run({"pixel_values": pixel_values()})
