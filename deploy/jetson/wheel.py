"""A wheel of this very package, as it is installed here: pure Python, so a zip of its files and three of metadata."""

import base64
import hashlib
import importlib.metadata
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import UserError

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("cli", "demo", "deploy", "export", "kernels", "train")
NAME = "vlseg"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_TAG = "Wheel-Version: 1.0\nGenerator: vlseg\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def pack_wheel() -> tuple[str, bytes]:
    """Return the wheel's file name and its bytes, the same bytes for the same files.

    Raises:
        UserError: the package runs from a folder that no installation knows, so nobody wrote down what it needs.
    """
    facts = _installed()
    info = f"{NAME}-{facts.version}.dist-info"
    entries = {name: (ROOT / path).read_bytes() for name, path in _files()}
    for name in ("METADATA", "entry_points.txt"):
        entries[f"{info}/{name}"] = str(facts.read_text(name)).encode()
    entries[f"{info}/WHEEL"] = _TAG.encode()
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in entries.items())
    entries[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    return f"{NAME}-{facts.version}-py3-none-any.whl", _zip(entries)


def _installed() -> importlib.metadata.Distribution:
    """Return what an installation wrote down; a source tree's own note of its last build may be older, and is none."""
    for found in importlib.metadata.distributions(name=NAME):
        if found.read_text("METADATA") and found.read_text("entry_points.txt"):
            return found
    raise UserError(f"vlseg runs from {ROOT} without being installed: pip install it, then deploy again")


def _files() -> Iterator[tuple[str, Path]]:
    """Yield the name in the wheel and the path here of every file of the package."""
    own = [path for path in ROOT.iterdir() if path.suffix == ".py" or path.name == "py.typed"]
    rooms = [path for room in ROOMS for path in (ROOT / room).rglob("*")]
    for path in sorted([*own, *rooms]):
        relative = path.relative_to(ROOT)
        if path.is_file() and "__pycache__" not in relative.parts and not path.name.startswith("."):
            yield f"{NAME}/{relative.as_posix()}", relative


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _zip(entries: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
    return made.getvalue()
