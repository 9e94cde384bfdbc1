"""Small files that stand for something vast, and names that lead elsewhere: refused in one sentence, and soon."""

import io
import json
import struct
import time
import zipfile
import zlib
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from vlseg.deploy.adapters import read_adapter
from vlseg.deploy.annotations import read_samples
from vlseg.deploy.errors import BundleError, UserError
from vlseg.deploy.files import inside, read_json, seal_of
from vlseg.deploy.fixed import read_fixed
from vlseg.deploy.journal import NAME, Journal
from vlseg.deploy.manifest import MANIFEST, Manifest
from vlseg.deploy.pixels import read_image
from vlseg.deploy.words import Tokenizer
from vlseg.train.datasets.runs import decode_runs
from vlseg.train.sealed import Damaged, unpack

from .targets import TINY

DEEP = 100_000
TOY = Manifest("toy", "toy/film", "toy", 16, (0.5,) * 3, (0.2,) * 3, fixed_prompts=["a"],
               adapters={"a": {"file": "a.npz", "threshold": 0.5}})  # fmt: skip


@contextmanager
def soon(seconds: float = 20):
    """Fail where the block takes long; a bomb takes minutes, and a busy machine seconds."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


@pytest.mark.parametrize("nest", ["[" * DEEP, '{"a":' * DEEP, "[" * DEEP + "]" * DEEP])
def test_json_that_is_nested_too_deeply(toy_bundle, toy_data, tmp_path, nest):
    with pytest.raises(UserError, match=r"x\.json is not valid JSON"):
        (tmp_path / "x.json").write_text(nest)
        read_json(tmp_path / "x.json")
    (toy_bundle / MANIFEST).write_text(nest)
    with pytest.raises(BundleError, match=r"manifest\.json is not valid JSON"):
        Manifest.load(toy_bundle)
    (toy_data / "anns" / "train.json").write_text(nest)
    with pytest.raises(UserError, match=r"train\.json is not valid JSON"):
        read_samples(toy_data, "train")
    (tmp_path / NAME).write_text(nest)
    with pytest.raises(UserError, match="holds results of another"):
        Journal(tmp_path, {"model": "x"})


@pytest.mark.parametrize("depth", [50, 300, 900])
def test_a_manifest_that_is_nested_less_deeply(toy_bundle, depth):
    values = json.loads((toy_bundle / MANIFEST).read_text())
    values["folds"] = lists_in_lists(depth)
    (toy_bundle / MANIFEST).write_text(json.dumps({**values, "seal": seal_of(values)}))
    with pytest.raises(BundleError, match="nested"):
        Manifest.load(toy_bundle).to_json()


def lists_in_lists(depth: int) -> list:
    """Return lists in lists."""
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("name", ["a" * 300, "x/" * 3000 + "a", "\ud800", "\udcff", "a\ud800.png"])
def test_names_that_no_file_system_takes(toy_bundle, toy_data, tmp_path, name):
    assert inside(tmp_path, name) is None
    (toy_data / "anns" / "train.json").write_text(
        json.dumps([{"img_name": name, "mask_name": name, "prompts": {"p0": ""}}])
    )
    with pytest.raises(UserError, match="outside"):
        read_samples(toy_data, "train")
    values = json.loads((toy_bundle / MANIFEST).read_text())
    values["files"][name] = "0" * 64
    (toy_bundle / MANIFEST).write_text(json.dumps({**values, "seal": seal_of(values)}))
    with pytest.raises(BundleError, match="outside the bundle"):
        Manifest.load(toy_bundle)


def test_links_in_a_circle_and_out(toy_bundle, tmp_path):
    (tmp_path / "secret").write_text("x")
    (toy_bundle / "round").symlink_to("about")
    (toy_bundle / "about").symlink_to("round")
    (toy_bundle / "up").symlink_to(tmp_path, target_is_directory=True)
    for name in ("round", "about", "up/secret", "up"):
        assert inside(toy_bundle, name) is None


def test_a_picture_of_gigabytes_in_a_few_bytes(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    (tmp_path / "bomb.png").write_bytes(data)
    with soon(), pytest.raises(UserError, match=r"bomb\.png is larger than (twice )?Pillow's guard"):
        read_image(tmp_path / "bomb.png")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("form", ["EPS", "PPM", "SGI", "PCX", "TGA", "ICO", "DDS"])
def test_only_the_formats_that_are_named_are_opened(tmp_path, form):
    """EPS would be handed to Ghostscript, a program that runs it."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, form)
    (tmp_path / "x.png").write_bytes(file.getvalue())
    with pytest.raises(UserError, match=r"cannot read .* as an image"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("size", [[1e400, 2], [-2, -2], [2**20, 2**20], ["8", 8], [None, 8], 8])
def test_runs_of_sizes_that_cannot_be(size):
    with soon(), pytest.raises(UserError):
        decode_runs({"size": size, "counts": [4]}, "a mask")


def test_a_run_that_never_ends():
    with soon(), pytest.raises(UserError, match="not a run-length mask"):
        decode_runs({"size": [8, 8], "counts": "o" * 3_000_000}, "a mask")


def array_header(shape: str, descr: str = "<f4") -> bytes:
    head = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (117 - len(head)) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head


@pytest.mark.parametrize(
    "data",
    [
        array_header("(1000000000000, 2, 3)") + bytes(24),
        array_header("(2**40, 2, 3)") + bytes(24),
        array_header("(-1, 2, 3)"),
        array_header("(1, 2, 3)", "|O") + bytes(48),
        b"\x93NUMPY\x01\x00\xff\xff",
        b"PK\x03\x04",
        b"",
    ],
)
def test_arrays_that_promise_more_than_there_is(tmp_path, data):
    (tmp_path / "fixed_text.npy").write_bytes(data)
    with soon(), pytest.raises(BundleError, match=r"fixed_text\.npy"):
        read_fixed(tmp_path, TOY)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("image/a.npy", data)
    if data:
        with soon(), pytest.raises(BundleError, match=r"a\.npz"):
            read_adapter(tmp_path, TOY, "a")
    (tmp_path / "a.npz").write_bytes(data)
    with soon(), pytest.raises(BundleError, match=r"a\.npz"):
        read_adapter(tmp_path, TOY, "a")


def test_an_archive_of_arrays_where_one_is_due_and_the_other_way_about(tmp_path):
    np.savez(tmp_path / "many.npz", a=np.ones(3))
    np.save(tmp_path / "one.npy", np.ones(3))
    (tmp_path / "fixed_text.npy").write_bytes((tmp_path / "many.npz").read_bytes())
    (tmp_path / "a.npz").write_bytes((tmp_path / "one.npy").read_bytes())
    with pytest.raises(BundleError, match=r"fixed_text\.npy is not an array"):
        read_fixed(tmp_path, TOY)
    with pytest.raises(BundleError, match=r"a\.npz cannot be read"):
        read_adapter(tmp_path, TOY, "a")


def test_an_adapter_for_parts_that_there_are_not(tmp_path):
    np.savez(tmp_path / "a.npz", **{"__class__/a": np.ones(3)})
    with pytest.raises(BundleError, match="__class__"):
        read_adapter(tmp_path, TOY, "a")


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2**27) + b"{}",
        struct.pack("<Q", 200) + b'{"a":' * 40,
        struct.pack("<Q", 72) + b'{"a":{"dtype":"F32","shape":[99999999999],"data_offsets":[0,400]}}      ',
        struct.pack("<Q", 64) + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}          ',
    ],
)
def test_headers_of_safetensors_that_lie(tmp_path, data):
    (tmp_path / "x.safetensors").write_bytes(data)
    with soon(), pytest.raises(Damaged):
        unpack(tmp_path / "x.safetensors")


@pytest.mark.parametrize("text", ["a" * 10_000_000, "a " * 5_000_000, "\N{GRINNING FACE}" * 200_000])
def test_a_prompt_of_megabytes(text):
    tokenizer = Tokenizer.load(TINY)
    with soon(), pytest.raises(UserError, match="characters, at most 100,000 are read: shorten it"):
        tokenizer([text])
    with soon():
        assert tokenizer([text[:100_000]])[0].shape[1] <= 77
