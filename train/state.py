"""Lightning checkpoints without pickle: one safetensors file, whose header holds the structure as JSON."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from torch import Tensor

from ..deploy.errors import UserError
from ..deploy.files import atomic_write
from .sealed import pack, unpack

TREE = "tree"


def encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return `value` as JSON takes it, its tensors moved into `tensors`; TypeError for what has no such form.

    Plain JSON stands for itself; everything else becomes an object with one key that names its kind.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, Tensor):
        name = f"{len(tensors):06d}"
        tensors[name] = value.detach().cpu().clone().contiguous()
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"map": [[encode(key, tensors), encode(item, tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        items = [encode(item, tensors) for item in value]
        return items if isinstance(value, list) else {"tuple": items}
    raise TypeError(
        f"a checkpoint cannot hold {type(value).__name__}: expected tensors, numbers, texts, lists and dicts"
    )


def decode(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return what `encode` was given."""
    if isinstance(tree, list):
        return [decode(item, tensors) for item in tree]
    if not isinstance(tree, dict):
        return tree
    ((kind, content),) = tree.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "map":
        return {decode(key, tensors): decode(item, tensors) for key, item in content}
    return float(content) if kind == "float" else tuple(decode(content, tensors))


class SafeCheckpointIO(CheckpointIO):
    """Writes and reads checkpoints as one file, whole or not at all."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write the checkpoint; a reader sees the old one or the new one."""
        tensors: dict[str, Tensor] = {}
        tree = json.dumps(encode(checkpoint, tensors), allow_nan=False)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, pack(tensors, {TREE: tree}))

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint onto the CPU; UserError for a damaged file."""
        try:
            tensors, words = unpack(path)
            return decode(json.loads(words[TREE]), tensors)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise UserError(f"{path} is not a whole checkpoint ({error}): delete it to start again") from error

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


def load_weights(module: torch.nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy `weights` into the parameters and buffers of the same names; KeyError for a name the module lacks."""
    own = module.state_dict()
    with torch.no_grad():
        for name, tensor in weights.items():
            own[name].copy_(tensor)
