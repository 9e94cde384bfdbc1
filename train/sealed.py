"""Tensors in a safetensors file whose header holds a hash of all that is in it, so that a changed bit shows."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

SHA = "sha256"
Words = dict[str, str]


class Damaged(ValueError):
    """A file that is not as it was written; the message says how it shows."""


def pack(tensors: Mapping[str, Tensor], words: Mapping[str, str] | None = None) -> bytes:
    """Return a file of tensors, on the CPU and contiguous, and `words` in its header, with their hash."""
    told = dict(words or {})
    return save(dict(tensors), metadata={**told, SHA: _digest(tensors, told)})


def unpack(path: Path | str) -> tuple[dict[str, Tensor], Words]:
    """Return the tensors and words of a file on the CPU; a file from before there were hashes is taken as it is.

    Raises:
        Damaged: no safetensors file, or not what was written.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            words = dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise Damaged(str(error)) from error
    written = words.pop(SHA, None)
    if written != _digest(tensors, words) and not (written is None and words.keys() <= _OLD):
        raise Damaged("its hash differs")
    return tensors, words


# what headers held before there were hashes; a hash whose name lost a bit is not taken for one that never was
_OLD = {"tree", "format"}


def _digest(tensors: Mapping[str, Tensor], words: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(sorted(words.items())).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
