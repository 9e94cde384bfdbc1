"""The only door through which a pickle may come: its hash is known before, and nothing in it is run."""

import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ...deploy.errors import UserError
from ...deploy.files import digest_of
from .torchscript import is_torchscript, read_torchscript

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Where training scripts keep the tensors, beside their optimiser and counters."""
PREFIX = "module."
"""What torch's DataParallel and DistributedDataParallel put before every name."""
_REFUSED: type[Exception] = torch.serialization.pickle.UnpicklingError  # type: ignore[reportPrivateImportUsage]
"""What torch raises for a pickle that asks for more than tensors."""
_DAMAGED = (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError)
_DAMAGED += (MemoryError, struct.error, zlib.error, zipfile.BadZipFile)
"""What it raises for files that are cut off or spoilt."""


def read_checkpoint(path: Path, digest: str) -> dict[str, Tensor]:
    """Return the tensors of a foreign checkpoint by name, on the CPU, without wrapper and DataParallel prefix.

    Reads what `torch.save` wrote (`weights_only`), and TorchScript archives without running them. The bytes that are
    read are those that were hashed.

    Raises:
        UserError: no such file, another SHA-256 than `digest`, more in it than tensors, or no tensors.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", digest := digest.strip().lower()):
        raise UserError(f"--sha256 {digest!r} is no SHA-256: expected the 64 hex digits that the publisher states")
    try:
        with open(path, "rb") as file:
            _check_hash(file, digest, path)
            found = read_torchscript(file, str(path)) if is_torchscript(file) else _load(file, path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    return _plain(found, path)


def _check_hash(file: BinaryIO, digest: str, path: Path) -> None:
    actual = digest_of(file)
    if actual != digest:
        raise UserError(
            f"{path} has SHA-256 {actual[:12]}..., expected {digest[:12]}...: it was not opened, download it again"
        )
    file.seek(0)


def _load(file: BinaryIO, path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # on the pickle's protocol; what it cannot read, it refuses
            return torch.load(file, map_location="cpu", weights_only=True)
    except (_REFUSED, *_DAMAGED) as error:
        raise UserError(
            f"{path} holds more than tensors, or is damaged ({_reason(str(error))}): it was not loaded; where you "
            "trust it, save its state dict alone with torch.save"
        ) from error


def _reason(message: str) -> str:
    """Return the one part of torch's long message that says what was found; the rest is about how to load it anyway."""
    found = re.search(r"GLOBAL (\S+)", message)
    if found:
        return f"it asks for {found[1]}"
    found = re.search(r"WeightsUnpickler error:\s*(\S.*)", message)
    return found[1] if found else message.split("\n")[0].split(". ")[0] or "it ends early"


def _plain(found: Any, path: Path) -> dict[str, Tensor]:
    inner = next((found[key] for key in WRAPPERS if _has_tensors(_under(found, key))), found)
    if not _has_tensors(inner):
        raise UserError(f"{path} holds no tensors by name: expected a state dict")
    tensors = {str(name): tensor for name, tensor in inner.items() if isinstance(tensor, Tensor)}
    wrapped = all(name.startswith(PREFIX) for name in tensors)
    return {name.removeprefix(PREFIX) if wrapped else name: tensor for name, tensor in tensors.items()}


def _under(found: Any, key: str) -> Any:
    return found.get(key) if isinstance(found, Mapping) else None


def _has_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(item, Tensor) for item in value.values())
