"""The adapters of one bundle: small tensors by name that replace those in its ONNX files, with nothing rebuilt.

`adapters/NAME.npz` holds them under `part/tensor`. An engine takes them as inputs at every run, or says that it cannot.
"""

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib.npyio import NpzFile

from .errors import BundleError, EngineError, UserError
from .flow import PARTS
from .manifest import Manifest

FOLDER = "adapters"
DAMAGED = (OSError, ValueError, EOFError, KeyError, RuntimeError, AttributeError, MemoryError)
DAMAGED += (zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError, SyntaxError)
"""What numpy and zipfile raise for an archive of arrays that is none, or promises more than there is."""
Arrays = dict[str, np.ndarray]


def file_of(name: str) -> str:
    """Return the file of an adapter in a bundle; UserError where a name would not make one."""
    if not name or not all(sign.isalnum() or sign in "-_." for sign in name) or name.startswith("."):
        raise UserError(f"adapter name {name!r} has other signs than letters, digits, '-', '_' and '.': choose another")
    return f"{FOLDER}/{name}.npz"


def write_adapter(path: Path, tensors: Mapping[str, Arrays]) -> int:
    """Write an adapter's tensors by part; return the bytes that a swap moves."""
    flat = {f"{part}/{name}": array for part, arrays in tensors.items() for name, array in arrays.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "xb") as file:
        np.savez(file, **flat)  # pyright: ignore[reportArgumentType]  # names of tensors, none is allow_pickle
    return sum(array.nbytes for array in flat.values())


def read_adapter(folder: Path, manifest: Manifest, name: str) -> dict[str, Arrays]:
    """Return an adapter's tensors for each part.

    Raises:
        UserError: the bundle has no such adapter; those that it has are named.
        BundleError: the file is damaged.
    """
    if name not in manifest.adapters:
        known = ", ".join(manifest.adapters) or "none (it was exported with one for good)"
        raise UserError(f"{manifest.name} has no adapter {name!r}; it has {known}")
    path = folder / manifest.adapters[name]["file"]
    tensors: dict[str, Arrays] = {}
    try:
        with open(path, "rb") as file, load_archive(file) as archive:
            for key in archive.files:
                part, _, tensor = key.partition("/")
                tensors.setdefault(part, {})[tensor] = array_of(archive, key)
    except DAMAGED as error:
        raise BundleError(f"{path} cannot be read ({error}): copy the bundle again") from error
    if foreign := tensors.keys() - set(PARTS):
        raise BundleError(f"{path} holds tensors of {min(foreign)!r}, expected {', '.join(PARTS)}: export it again")
    return tensors


def load_archive(file: BinaryIO) -> NpzFile:
    """Return numpy's archive of arrays, of which none is unpickled; raises as `DAMAGED`."""
    found = np.load(file, allow_pickle=False)
    if not isinstance(found, NpzFile):
        raise ValueError("it is no archive of arrays")
    return found


def array_of(archive: NpzFile, key: str) -> np.ndarray:
    """Return one array of an archive; raises as `DAMAGED`, since numpy itself gives back whatever else is in it."""
    array = archive[key]
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{key} is no array")
    return array


def described(manifest: Manifest, name: str) -> Manifest:
    """Return the manifest as it is while an adapter is used: its threshold, certificate and training."""
    own = manifest.adapters[name]
    return replace(manifest, threshold=own["threshold"], parity=own.get("parity", {}), training=own.get("training", {}))


def check_swaps(engines: Mapping[str, object], tensors: Mapping[str, Arrays], name: str) -> None:
    """Refuse where an engine of a part that the adapter changes has its weights for good."""
    for part in tensors:
        if not getattr(engines[part], "swaps", False):
            raise EngineError(
                f"{getattr(engines[part], 'name', 'this engine')} cannot change to adapter {name!r}, its weights are "
                "built in: use --engine onnxruntime, or export the run by itself"
            )
