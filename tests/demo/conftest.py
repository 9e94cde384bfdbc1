"""A bundle of four nodes: bright pixels are the object, and how sure it is depends on the sentence."""

import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from vlseg.demo.models import Models
from vlseg.deploy.manifest import Manifest

SIZE = 32
TOKENIZER = Path(__file__).parents[2] / "train" / "models" / "tiny" / "tokenizer.json"


# The server tells every address it connects to or looks up, from the first import on.
SERVER = """
import sys
def told(event, values):
    if event == "socket.connect": print("ADDRESS", values[1], flush=True)
    if event == "socket.getaddrinfo": print("ADDRESS", values[0], flush=True)
sys.addaudithook(told)
from pathlib import Path
from vlseg.demo.page import Place, launch
launch([Path(name) for name in sys.argv[2:]], Place(port=int(sys.argv[1]), {place}), threads=1)
"""


def _save(path, nodes, inputs, outputs, constants):
    constants = [
        numpy_helper.from_array(np.asarray(v, np.int64 if k != "gain" else np.float32), k) for k, v in constants.items()
    ]
    infos = [[helper.make_tensor_value_info(n, t, d) for n, t, d in side] for side in (inputs, outputs)]
    graph = helper.make_graph(nodes, "part", *infos, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def write_bundle(folder: Path, threshold: float = 0.5) -> Path:
    folder.mkdir(parents=True)
    node, real, whole = helper.make_node, TensorProto.FLOAT, TensorProto.INT64
    pixels = ("pixel_values", real, ["batch", 3, SIZE, SIZE])
    image, text = ("image_embedding", real, ["batch", 1, SIZE**2, 1]), ("text_embedding", real, ["batch", 2, 1])
    ids, attention = ("input_ids", whole, ["batch", "length"]), ("attention_mask", whole, ["batch", "length"])
    logits = ("logits", real, ["batch", 1, SIZE, SIZE])
    gray = [
        node("ReduceMean", ["pixel_values", "one"], ["gray"]),
        node("Reshape", ["gray", "shape"], ["image_embedding"]),
    ]
    _save(folder / "image.onnx", gray, [pixels], [image], {"one": [1], "shape": [-1, 1, SIZE**2, 1]})
    count = [
        node("ReduceSum", ["attention_mask", "one"], ["count"]),
        node("Cast", ["count"], ["real"], to=real),
        node("Mul", ["real", "gain"], ["factor"]),
        node("Unsqueeze", ["factor", "one"], ["row"]),
        node("Concat", ["row", "row"], ["text_embedding"], axis=1),
    ]
    _save(folder / "text.onnx", count, [ids, attention], [text], {"one": [1], "gain": 0.7})
    scaled = [
        node("Split", ["text_embedding"], ["factor", "other"], axis=1, num_outputs=2),
        node("Unsqueeze", ["factor", "one"], ["scale"]),
        node("Mul", ["image_embedding", "scale"], ["raw"]),
        node("Reshape", ["raw", "shape"], ["logits"]),
    ]
    _save(folder / "decoder.onnx", scaled, [image, text], [logits], {"one": [1], "shape": [-1, 1, SIZE, SIZE]})
    shutil.copy(TOKENIZER, folder / "tokenizer.json")
    parts = {part: f"{part}.onnx" for part in ("image", "text", "decoder")}
    Manifest(
        "bright", "clipseg/none", "nano", SIZE, (0.5,) * 3, (0.25,) * 3, threshold, parts=parts,
        parity={"dice_min": 1.0, "passed": True}, backbone="test",
    ).save(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def bright(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundles") / "bright")


@pytest.fixture(scope="session")
def strict(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundles") / "strict", threshold=0.8)


@pytest.fixture
def models(bright, strict):
    opened = Models([bright, strict], threads=1)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def picture(tmp_path_factory):
    """A dark ground that grows lighter to the right, with a bright disc."""
    y, x = np.mgrid[0:90, 0:120]
    gray = 40 + x * 0.6 + 120 * (np.hypot(y - 40, x - 50) < 20)
    path = tmp_path_factory.mktemp("pictures") / "disc.png"
    Image.fromarray(np.repeat(gray.astype(np.uint8)[..., None], 3, axis=2)).save(path)
    return path


@pytest.fixture(scope="session")
def moving(tmp_path_factory):
    """A second of video, 20 frames: a bright disc that moves to the right."""
    av = pytest.importorskip("av")
    path = tmp_path_factory.mktemp("videos") / "moving.mkv"
    y, x = np.mgrid[0:48, 0:64]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=20)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        for i in range(20):
            gray = (40 + 200 * (np.hypot(y - 24, x - 10 - 2 * i) < 9)).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(np.repeat(gray[..., None], 3, axis=2), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url, process, seconds=90):
    anyone = ssl._create_unverified_context() if url.startswith("https") else None
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5, context=anyone):
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.3)
    raise AssertionError(f"the page did not come up: exit code {process.poll()}")


@pytest.fixture(scope="session")
def serving(tmp_path_factory):
    """A context: a server of bundles in a process of its own, far from the source; its address and the process."""
    cwd = tmp_path_factory.mktemp("elsewhere")

    @contextmanager
    def serve(bundles, place="", scheme="http", **options):
        url = f"{scheme}://127.0.0.1:{free_port()}"
        command = [sys.executable, "-c", SERVER.replace("{place}", place), url.rpartition(":")[2], *map(str, bundles)]
        with subprocess.Popen(command, cwd=cwd, **options) as process:
            try:
                wait_for(url, process)
                yield url, process
            finally:
                process.terminate()

    return serve
