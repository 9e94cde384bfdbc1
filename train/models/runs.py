"""A run on disk: `run.json` says what was trained, `trained.safetensors` holds the trained part alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ...deploy.errors import UserError
from ...deploy.files import SEAL, inside, read_json, seal_of, sha256, write_json
from .clipseg import Clipseg
from .grafts import trained_state
from .methods import build_model

RUN, TRAINED = "run.json", "trained.safetensors"
FILES = "files"
"""Field of `run.json`: the SHA-256 of each file beside it; `seal` is that of all its other fields."""


def save_run(folder: Path, model: Clipseg, info: dict[str, Any]) -> None:
    """Write the trained part of `model` and `info` into an existing `folder`.

    `info` needs `method`, `size`, `weights` (as given to `build_model`), `options`; the backbone's name and hash and
    the image size are added here. `stored` "float16" halves the file, see `round_trained`.
    """
    dtype = getattr(torch, info.get("stored", "float32"))
    trained = {
        name: (p.to(dtype) if p.is_floating_point() else p).detach().cpu().contiguous()
        for name, p in trained_state(model).items()
    }
    save_file(trained, folder / TRAINED)
    backbone = {"backbone": model.backbone, "weights_hash": model.weights_hash, "image_size": model.image_size}
    write_json(folder / RUN, info | backbone)
    seal_run(folder, {TRAINED: folder / TRAINED})


@torch.no_grad()
def round_trained(model: Clipseg) -> None:
    """Round the trained part to float16, as a file that is `stored` so gives it back; UserError beyond its range."""
    for name, p in trained_state(model).items():
        if p.is_floating_point():
            p.copy_(p.half())
            if not torch.isfinite(p).all():
                raise UserError(f"{name} does not fit into float16 (beyond 65504): train with stored=float32")


def seal_run(folder: Path, files: Mapping[str, Path]) -> None:
    """Write into the `run.json` of `folder` the hash of each of `files`, by their names beside it, and its own seal."""
    info = read_json(folder / RUN) | {FILES: {name: sha256(path) for name, path in sorted(files.items())}}
    write_json(folder / RUN, info | {SEAL: seal_of(info)})


def load_run(folder: Path) -> tuple[Clipseg, dict[str, Any]]:
    """Return the model of a run, in evaluation mode, and its `run.json`.

    Raises UserError where the folder is no run, is damaged, or was trained on other backbone weights.
    """
    info = read_run(folder)
    model = build_model(
        info["method"], info["size"], weights=info["weights"], image_size=info["image_size"], **info["options"]
    )
    if model.weights_hash != info["weights_hash"]:
        raise UserError(
            f"{folder} was trained on {info['backbone']} with hash {info['weights_hash'][:12]}, "
            f"these weights have {model.weights_hash[:12]}: pass the backbone it was trained on"
        )
    _load_trained(folder / TRAINED, model)
    return model.eval(), info


def start_from(folder: Path, model: Clipseg, method: str) -> dict[str, Any]:
    """Put the trained part of a run into `model`, of the same method on the same weights; return its `run.json`.

    Raises UserError where the folder is no run, is damaged, or does not fit.
    """
    info = read_run(folder)
    if info["method"] != method:
        raise UserError(f"{folder} is a run of {info['method']}, not of {method}: start from one of the same method")
    if model.weights_hash != info["weights_hash"]:
        raise UserError(f"{folder} was trained on other weights, of {info['backbone']}: start from one on the same")
    _load_trained(folder / TRAINED, model)
    return info


def read_run(folder: Path) -> dict[str, Any]:
    """Return the `run.json` of a run folder; UserError where there is none, or it or a file beside it is damaged.

    A run from before there were seals is taken as it is.
    """
    path = Path(folder) / RUN
    if not path.is_file():
        raise UserError(f"{folder} is not a run: expected a folder with {RUN}, as `vlseg train` writes it")
    info = read_json(path)
    if not isinstance(info, dict):
        raise UserError(f"{path} holds a {type(info).__name__}, expected an object: train again, or copy the run whole")
    if not info.keys().isdisjoint({SEAL, FILES}):
        _check_seal(Path(folder), info)
    missing = {"method", "size", "weights", "options", "image_size", "weights_hash", "backbone"} - info.keys()
    if missing:
        raise UserError(f"{Path(folder) / RUN} lacks {', '.join(sorted(missing))}: train again with this version")
    return info


def _check_seal(folder: Path, info: dict[str, Any]) -> None:
    """Check that nothing has changed since the run was written; what was left behind in a copy is no damage."""
    if info.get(SEAL) != seal_of(info) or not isinstance(info.get(FILES), dict):
        raise UserError(f"{folder / RUN} is not as it was written (its seal differs): copy the run again or train")
    for name, digest in info[FILES].items():
        path = inside(folder, name)
        if path is None:
            raise UserError(f"{folder / RUN} names {name!r}, which is outside of the run: do not use this run")
        if path.is_file() and sha256(path) != digest:
            raise UserError(f"{path} is not as it was written (its hash differs): copy the run again or train")


def _load_trained(path: Path, model: Clipseg) -> None:
    try:
        saved = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({error}): train again or copy the run whole") from error
    expected = {name: tuple(p.shape) for name, p in trained_state(model).items()}
    found = {name: tuple(tensor.shape) for name, tensor in saved.items()}
    if found != expected:
        wrong = sorted(name for name in expected.keys() | found.keys() if found.get(name) != expected.get(name))
        raise UserError(
            f"{path} does not fit this method: {wrong[0]} is {found.get(wrong[0])}, expected {expected.get(wrong[0])}"
        )
    model.load_state_dict(saved, strict=False)
