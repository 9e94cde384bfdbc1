"""Where a CRIS's weights come from: a folder that `vlseg convert` wrote, or drawn at random."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from ....deploy.errors import UserError
from ....deploy.words import Tokenizer
from ..backbone import small_tokenizer, weights_hash
from ..names import check_names
from .cris import Cris
from .sizes import CRIS_SIZES

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
OWN = ("neck.", "decoder.", "proj.", "clip.visual.attnpool.connect.")
"""What CRIS adds to CLIP RN50, and a folder of CLIP's weights alone does not hold."""


def load_cris(size: str, weights: str | None = None, image_size: int | None = None) -> Cris:
    """Return a CRIS of `size`, every parameter in float32.

    `weights`: "random", or a folder that `vlseg convert` wrote from a CRIS checkpoint or from CLIP RN50 (then what CRIS
    adds is drawn at random); None draws the small sizes at random too, the published one has no weights by name.
    """
    geometry = CRIS_SIZES[size]
    if weights is None and size == "base":
        raise UserError(
            "CRIS has no published weights by name: convert a checkpoint with `vlseg convert FILE --sha256 HEX "
            "--to FOLDER` and pass --weights FOLDER, or --weights random"
        )
    if weights in (None, "random"):
        model = Cris(geometry, small_tokenizer(geometry.vocabulary), image_size or geometry.image_size)
    else:
        model = _from_folder(Path(weights), size, image_size or geometry.image_size)
    model.backbone = weights or geometry.backbone
    model.weights_hash = weights_hash(model)
    return model


def _from_folder(folder: Path, size: str, image_size: int) -> Cris:
    holds = _holds(folder, size)
    geometry = CRIS_SIZES[size]
    tokenizer = Tokenizer.load(folder / TOKENIZER).cut_to()
    if tokenizer.end != geometry.vocabulary - 1:
        raise UserError(
            f"the tokenizer in {folder} ends sentences with {tokenizer.end}, this CRIS with {geometry.vocabulary - 1}: "
            "put the tokenizer.json of CLIP there"
        )
    model = Cris(geometry, tokenizer, image_size)
    try:
        state = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise UserError(f"the weights in {folder} cannot be read: {error}") from error
    check_names(state, model.state_dict(), str(folder), OWN if holds == "clip" else ())
    model.load_state_dict(state, strict=False)
    return model


def _holds(folder: Path, size: str) -> str:
    try:
        config: Any = json.loads((folder / CONFIG).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"no CRIS weights at {folder}: expected a folder that `vlseg convert` wrote") from error
    kind, written = config.get("model_type"), config.get("size")
    if kind != "cris" or written != size:
        raise UserError(f"{folder} holds weights of {kind} {written}, expected cris {size}: pass another folder")
    return config.get("holds", "cris")
