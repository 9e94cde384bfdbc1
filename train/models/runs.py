"""A run on disk: `run.json` says what was trained, `trained.safetensors` holds the trained part alone."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ...deploy.errors import UserError
from ...deploy.files import write_json
from .clipseg import Clipseg
from .grafts import trained_state
from .methods import build_model

RUN, TRAINED = "run.json", "trained.safetensors"


def save_run(folder: Path, model: Clipseg, info: dict[str, Any]) -> None:
    """Write the trained part of `model` and `info` into an existing `folder`.

    `info` needs `method`, `size`, `weights` (as given to `build_model`), `options`; the backbone's name and hash and
    the image size are added here.
    """
    trained = {name: p.detach().cpu().contiguous() for name, p in trained_state(model).items()}
    save_file(trained, folder / TRAINED)
    backbone = {"backbone": model.backbone, "weights_hash": model.weights_hash, "image_size": model.image_size}
    write_json(folder / RUN, info | backbone)


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


def read_run(folder: Path) -> dict[str, Any]:
    """Return the `run.json` of a run folder; UserError where there is none or it is damaged."""
    try:
        info = json.loads((Path(folder) / RUN).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{folder} is not a run: expected a folder with {RUN}, as `vlseg train` writes it") from error
    missing = {"method", "size", "weights", "options", "image_size", "weights_hash", "backbone"} - info.keys()
    if missing:
        raise UserError(f"{Path(folder) / RUN} lacks {', '.join(sorted(missing))}: train again with this version")
    return info


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
