"""The doors that strangers' bytes come in by, one function each: bytes in, and nothing but a UserError may come out.

`fuzz.py` feeds them what atheris makes up, `test_findings.py` what it once found.
"""

import atexit
import hashlib
import io
import json
import shutil
import struct
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vlseg.deploy.adapters import read_adapter
from vlseg.deploy.annotations import RANDOM, choose_prompt, read_samples
from vlseg.deploy.errors import UserError
from vlseg.deploy.files import seal_of
from vlseg.deploy.fixed import read_fixed
from vlseg.deploy.inputs.files import open_any
from vlseg.deploy.journal import NAME, Journal
from vlseg.deploy.manifest import MANIFEST, Manifest
from vlseg.deploy.outputs.rle import from_rle
from vlseg.deploy.pixels import read_image, read_mask
from vlseg.deploy.tensorrt.kernels import read_kernels
from vlseg.deploy.tensorrt.plans import read_plans
from vlseg.deploy.window import parse_window
from vlseg.deploy.words import CONTEXT, Tokenizer

ROOT = Path(__file__).parents[2]
TINY = ROOT / "train" / "models" / "tiny" / "tokenizer.json"


@cache
def scratch() -> Path:
    """A folder for this process."""
    made = Path(tempfile.mkdtemp(prefix="vlseg-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def place(name: str, data: bytes) -> Path:
    """Write bytes to a file of the scratch folder."""
    path = scratch() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@cache
def whole_manifest() -> dict[str, Any]:
    """What the manifest of a small bundle says; its files are beside it, and are no models."""
    for name in ("image.onnx", "text.onnx", "decoder.onnx", "tokenizer.json"):
        place(f"bundle/{name}", name.encode())
    parts: dict[str, str | None] = {part: f"{part}.onnx" for part in ("image", "text", "decoder")}
    sealed = Manifest("toy", "toy/film", "toy", 16, (0.5,) * 3, (0.2,) * 3, parts=parts).save(scratch() / "bundle")
    return sealed.to_json()


def json_of(data: bytes) -> Any:
    """Return what bytes say as JSON, or None."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def manifest(data: bytes) -> None:
    """A manifest as it is, and, where the bytes are an object, a whole one with these fields and a good seal."""
    whole = whole_manifest()
    _try(lambda: Manifest.load(place(f"bundle/{MANIFEST}", data).parent))
    if isinstance(fields := json_of(data), dict):
        values = {**whole, **fields}
        values["seal"] = seal_of(values)
        place(f"bundle/{MANIFEST}", json.dumps(values).encode())
        _try(lambda: Manifest.load(scratch() / "bundle").to_json())


def annotations(data: bytes) -> None:
    """`anns/train.json` of a data folder."""
    for part in ("images", "masks"):
        if not (scratch() / "data" / part / "a.png").exists():
            place(f"data/{part}/a.png", picture_bytes("PNG"))
    place("data/anns/train.json", data)
    for sample in _try(lambda: read_samples(scratch() / "data", "train")) or ():
        for key in (*sample.prompts, RANDOM):
            _try(lambda key=key, sample=sample: choose_prompt(sample, key, 3))


def reports(data: bytes) -> None:
    """A report beside an image."""
    for i in range(3):
        place(f"plain/images/{i}.png", picture_bytes("PNG"))
        place(f"plain/masks/{i}.png", picture_bytes("PNG"))
        place(f"plain/reports/{i}.txt", data)
    _try(lambda: read_samples(scratch() / "plain", "all"))


def coco(data: bytes) -> None:
    """COCO annotations, and the masks they draw."""
    from vlseg.train.datasets.coco import read_coco
    from vlseg.train.datasets.tree import Tree

    files = {"a.json": place("coco/a.json", data), "a.png": place("coco/a.png", picture_bytes("PNG"))}
    for item in _try(lambda: read_coco(Tree(scratch() / "coco", files))) or ():
        _try(lambda item=item: list(item.shots()))


def yolo(data: bytes) -> None:
    """A label file of YOLO."""
    from vlseg.train.datasets.tree import Tree
    from vlseg.train.datasets.yolo import read_yolo

    names = {"data.yaml": b"names: [spot, spit]", "images/a.png": picture_bytes("PNG"), "labels/a.txt": data}
    files = {name: place(f"yolo/{name}", content) for name, content in names.items()}
    for item in _try(lambda: read_yolo(Tree(scratch() / "yolo", files))) or ():
        _try(lambda item=item: list(item.shots()))


def runs(data: bytes) -> None:
    """Run-length masks: of COCO as they are read, and as our own are read back."""
    from vlseg.train.datasets.runs import decode_runs

    if isinstance(coded := json_of(data), dict):
        _try(lambda: decode_runs(coded, "a mask"))
        _try(lambda: from_rle(coded))


def run(data: bytes) -> None:
    """`run.json` of a run."""
    from vlseg.train.models.runs import read_run

    _try(lambda: read_run(place("run/run.json", data).parent))


def journal(data: bytes) -> None:
    """The journal of a folder of results."""
    path = place(f"results/{NAME}", data)
    for settings in ({"model": "x", "threshold": 0.5}, {}):
        found = _try(lambda settings=settings: Journal(path.parent, settings))
        if found:
            found.done(path)


def picture(data: bytes) -> None:
    """A picture, and the same as a mask."""
    for suffix in (".png", ".tif"):
        path = place(f"picture{suffix}", data)
        _try(lambda path=path: read_image(path))
        _try(lambda path=path: read_image(path, (0.0, 9.0)))
        _try(lambda path=path: read_mask(path))
        _try(lambda path=path: list(open_any(path)))


def dicom(data: bytes) -> None:
    """A DICOM file, frame by frame."""
    path = place("picture.dcm", data)
    for seen in _try(lambda: _few(open_any(path))) or ():
        assert seen.pixels.dtype == np.uint8 and seen.pixels.ndim == 3


def nifti(data: bytes) -> None:
    """A NIfTI volume, slice by slice, and the same as a label map."""
    from vlseg.train.datasets.plane import read_labels, read_plane

    path = place("volume.nii", data)
    _try(lambda: list(_few(open_any(path))))
    _try(lambda: read_plane(path))
    _try(lambda: read_labels(path))


def meta(data: bytes) -> None:
    """A MetaImage header."""
    from vlseg.train.datasets.plane import read_plane

    place("a.raw", bytes(64))
    _try(lambda: read_plane(place("a.mhd", data)))


def prompt(data: bytes) -> None:
    """A sentence: begin, words, end, and never more than there is room for."""
    text = data.decode("utf-8", "surrogatepass" if len(data) % 2 else "replace") if _decodes(data) else repr(data)
    for tokenizer in tokenizers():
        found = _try(lambda tokenizer=tokenizer: tokenizer([text, ""]))
        if found:
            ids, mask = found
            assert ids.shape == mask.shape and ids.shape[0] == 2 and 2 <= ids.shape[1] <= CONTEXT
            assert (ids[np.arange(2), mask.sum(1) - 1] == tokenizer.end).all()
            _try(lambda tokenizer=tokenizer: tokenizer.unread(text))
    _try(lambda: parse_window(text))


def words(data: bytes) -> None:
    """A `tokenizer.json`, and a sentence through it."""
    path = place("tokenizer.json", data)
    found = _try(lambda: Tokenizer.load(path))
    if found:
        _try(lambda: found(["a red spot", ""]))


def arrays(data: bytes) -> None:
    """Fixed prompts, adapters and stored answers: archives and arrays of numbers."""
    from vlseg.deploy.tensorrt.answers import FILE, read_answers

    known = Manifest("toy", "toy/film", "toy", 16, (0.5,) * 3, (0.2,) * 3, fixed_prompts=["a"],
                     adapters={"a": {"file": "a.npz", "threshold": 0.5}}, files={FILE: ""})  # fmt: skip
    for name in ("fixed_text.npy", "a.npz", FILE):
        place(f"arrays/{name}", data)
    _try(lambda: read_fixed(scratch() / "arrays", known))
    _try(lambda: read_adapter(scratch() / "arrays", known, "a"))
    _try(lambda: read_answers(scratch() / "arrays", known))


def engines(data: bytes) -> None:
    """The lists of engines and of kernels beside a bundle."""
    _try(lambda: read_plans(place("engines/engines/engines.json", data).parents[1]))
    place("engines/ptx/kernels.json", data)
    known = Manifest("toy", "toy/film", "toy", 16, (0.5,) * 3, (0.2,) * 3, files={"ptx/kernels.json": ""})
    _try(lambda: read_kernels(scratch() / "engines", known, 87))


def checkpoint(data: bytes) -> None:
    """A foreign checkpoint: torch's pickle, TorchScript; and the state of a training of ours."""
    from vlseg.train.convert.checkpoint import read_checkpoint
    from vlseg.train.state import SafeCheckpointIO

    path = place("foreign.pt", data)
    _try(lambda: read_checkpoint(path, hashlib.sha256(data).hexdigest()))
    _try(lambda: SafeCheckpointIO().load_checkpoint(path))


def archive(data: bytes) -> None:
    """An archive of a data set; whatever it holds, nothing appears outside of its folder."""
    from vlseg.train.datasets.unpack import unpack

    for ending in (".zip", ".tar", ".tar.gz"):
        path = place(f"archive{ending}", data)
        with tempfile.TemporaryDirectory(dir=scratch()) as into:
            before = set(scratch().iterdir())
            _try(lambda path=path, into=into: unpack(path, Path(into)))
            assert set(scratch().iterdir()) == before


TARGETS: dict[str, Callable[[bytes], None]] = {
    one.__name__: one
    for one in (
        manifest, annotations, reports, coco, yolo, runs, run, journal, picture, dicom, nifti, meta, prompt, words,
        arrays, engines, checkpoint, archive,
    )
}  # fmt: skip


@cache
def tokenizers() -> list[Tokenizer]:
    """CLIP's kind, BERT's kind, and one of words alone."""
    from tokenizers import Tokenizer as Library
    from tokenizers import models, pre_tokenizers, processors

    pieces = {"[CLS]": 0, "[SEP]": 1, "[UNK]": 2, "po": 3, "##lyp": 4, "a": 5, "##a": 6, "red": 7}
    bert = Library(models.WordPiece(pieces, unk_token="[UNK]"))
    bert.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    bert.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    return [Tokenizer.load(TINY), Tokenizer(bert.to_str())]


def seeds(target: str) -> list[bytes]:
    """Whole examples from which the made-up ones of a target start."""
    made: dict[str, Callable[[], list[bytes]]] = {
        "manifest": lambda: [
            json.dumps(whole_manifest(), indent=2).encode(), b'{"schema_version": 1}', b'{"files": {"a/../b": "0"}}',
            b'{"adapters": {"a": {"file": "image.onnx", "threshold": 0.5}}}', b'{"fixed_prompts": ["a"]}',
            b'{"flow": {"image": {"inputs": ["a"], "outputs": ["b"]}}}', b'{"axes": {"text": {"input_ids": [1, "b"]}}}',
        ],
        "annotations": lambda: [
            b'[{"img_name": "a.png", "mask_name": "a.png", "prompts": {"p0": "", "p1": ["a", "b"]}}]',
        ],
        "coco": lambda: [
            b'{"images": [{"id": 1, "file_name": "a.png", "height": 8, "width": 8}], "annotations": [{"image_id": 1, '
            b'"category_id": 1, "segmentation": [[0, 0, 5, 0, 5, 5]]}], "categories": [{"id": 1, "name": "spot"}]}',
            b'{"images": [{"id": 1, "file_name": "a.png", "height": 8, "width": 8}], "annotations": [{"image_id": 1, '
            b'"category_id": 1, "segmentation": {"size": [8, 8], "counts": [3, 61]}}], "categories": [{"id": 1, '
            b'"name": "spot"}]}',
        ],
        "yolo": lambda: [b"0 0.1 0.2 0.5 0.2 0.3 0.7\n1 0 0 1 0 1 1"],
        "runs": lambda: [b'{"size": [9, 10], "counts": "61X13mN000`0"}', b'{"size": [2, 2], "counts": [1, 3]}'],
        "run": lambda: [
            b'{"method": "a", "size": "b", "weights": null, "options": {}, "image_size": 1, "weights_hash": "", '
            b'"backbone": "", "files": {"trained.safetensors": "0"}, "seal": "0"}',
        ],
        "journal": lambda: [b'{"settings": {"model": "x", "threshold": 0.5}, "overwrite": false, "crc32": 1}\n'],
        "picture": lambda: [picture_bytes(form) for form in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP")]
        + [picture_bytes("TIFF", mode) for mode in ("I;16", "F", "1", "CMYK")] + [picture_bytes("PNG", "P")],
        "dicom": lambda: [dicom_bytes()],
        "nifti": lambda: [nifti_bytes()],
        "meta": lambda: [b"ObjectType = Image\nDimSize = 8 8\nElementType = MET_UCHAR\nElementDataFile = a.raw\n"],
        "prompt": lambda: [b"one small red polyp", "\u202e\u05d0 \U0001f600".encode(), b"-160,240"],
        "words": lambda: [tokenizers()[1].json.encode()],
        "arrays": array_bytes,
        "engines": lambda: [
            b'{"schema_version": 1, "engines": [{"part": "image", "file": "a", "sha256": "", "key": {"device": "d", '
            b'"capability": 87, "tensorrt": "10", "precision": "fp32", "onnx": "", "batch": 1, "refit": ["a"]}}]}',
            b'[{"arch": 87, "ptx": "a.ptx", "node": "n", "arguments": [{"name": "a_ptr", "type": "i32"}]}]',
        ],
        "checkpoint": checkpoint_bytes,
        "archive": archive_bytes,
        "reports": lambda: [b"one polyp"],
    }  # fmt: skip
    return made[target]()


def picture_bytes(form: str, mode: str = "RGB") -> bytes:
    """Return a small picture of a format."""
    file = io.BytesIO()
    Image.fromarray(np.arange(8 * 8, dtype=np.uint8).reshape(8, 8) * 3).convert(mode).save(file, form)
    return file.getvalue()


def dicom_bytes() -> bytes:
    """Return a small CT slice."""
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID, data.file_meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, data.file_meta.MediaStorageSOPInstanceUID
    data.Rows = data.Columns = 4
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation, data.SamplesPerPixel = 15, 0, 1
    data.PhotometricInterpretation, data.Modality = "MONOCHROME2", "CT"
    data.RescaleSlope, data.RescaleIntercept, data.PixelSpacing = 1, -1024, [0.5, 0.5]
    data.WindowCenter, data.WindowWidth = [40, 300], [400, 1500]
    data.PixelData = np.arange(16, dtype=np.uint16).tobytes()
    file = io.BytesIO()
    pydicom.dcmwrite(file, data, enforce_file_format=True)
    return file.getvalue()


def nifti_bytes() -> bytes:
    """Return a small volume of one file."""
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, 4, 3, 2, 1, 1, 1, 1)
    struct.pack_into("<2h", head, 70, 4, 16)
    struct.pack_into("<8f", head, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<3f", head, 108, 352, 1, 0)
    struct.pack_into("<2h", head, 252, 0, 1)
    struct.pack_into("<12f", head, 280, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    head[344:348] = b"n+1\0"
    return bytes(head) + np.arange(24, dtype="<i2").tobytes()


def array_bytes() -> list[bytes]:
    """Return a small array, and an archive of two."""
    one, many = io.BytesIO(), io.BytesIO()
    np.save(one, np.ones((1, 2, 3), np.float32))
    np.savez(many, **{"image/a": np.ones(3, np.float32), "decoder/b": np.zeros((2, 2), np.float32)})  # type: ignore[arg-type]
    return [one.getvalue(), many.getvalue()]


def checkpoint_bytes() -> list[bytes]:
    """Return checkpoints of torch and of ours."""
    import torch

    from vlseg.train.sealed import pack

    made = []
    for new in (True, False):
        file = io.BytesIO()
        torch.save({"a": torch.ones(2)}, file, _use_new_zipfile_serialization=new)
        made.append(file.getvalue())
    return [*made, pack({"000000": torch.ones(2)}, {"tree": '{"map": [["a", {"tensor": "000000"}]]}'})]


def archive_bytes() -> list[bytes]:
    """Return a small zip and a small tar."""
    import tarfile
    import zipfile

    packed, taped = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("a/b.txt", b"hello")
    with tarfile.open(fileobj=taped, mode="w") as tape:
        info = tarfile.TarInfo("a/b.txt")
        info.size = 5
        tape.addfile(info, io.BytesIO(b"hello"))
    return [packed.getvalue(), taped.getvalue()]


def _try(call: Callable[[], Any]) -> Any:
    """Return what a call returns; None for a UserError, whose one sentence is all that a stranger's bytes may cause."""
    try:
        return call()
    except UserError as error:
        assert str(error).strip()
        return None


def _few(pictures: Any, most: int = 3) -> list[Any]:
    return [pictures.read(index) for index in range(min(most, len(pictures)))]


def _decodes(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True
