"""Where a SAM and the BERT beside it come from: a local folder, the hub, or drawn at random."""

from pathlib import Path

from safetensors import SafetensorError
from torch import nn
from transformers import BertModel, SamModel

from ....deploy.errors import UserError
from ....deploy.words import Tokenizer
from ..backbone import from_folder_or_hub, read_library, small_tokenizer, weights_hash
from ..sizes import TINY
from .sam import Sam
from .sizes import SamSize, bert_config, sam_config, sam_size_of

BERT = "bert"
"""The folder, within one of SAM's weights, that holds BERT's."""


def load_sam(size: str, weights: str | None = None, image_size: int | None = None) -> Sam:
    """Return a SAM of `size` that reads no text yet, every parameter in float32.

    `weights`: None for the size's own, "random", or a folder with config.json and model.safetensors.
    """
    geometry = sam_size_of(size)
    source = weights or geometry.backbone
    if weights == "random" or (weights is None and geometry.drawn):
        library = SamModel(sam_config(size))
    else:
        library = _from_folder_or_hub(source, local=weights is not None)
        _check_kind(library, size, source)
    digest = weights_hash(library)
    model = Sam(library, Tokenizer.load(TINY / "tokenizer.json"), geometry, image_size or geometry.image_size)
    model.backbone, model.weights_hash = source, digest
    return model


def load_bert(geometry: SamSize, weights: str) -> tuple[nn.Module, Tokenizer]:
    """Return the BERT of a size without its pooler, and its tokenizer; `weights` is where SAM's came from.

    Beside a folder of SAM's weights it is looked for in the folder `bert` within; it is drawn where SAM is.
    """
    if weights == "random" or (geometry.drawn and weights == geometry.backbone):
        config = bert_config(geometry)
        return BertModel(config, add_pooling_layer=False), small_tokenizer(config.vocab_size)
    folder = Path(weights) / BERT
    local = folder.is_dir()
    bert, tokenizer = from_folder_or_hub(BertModel, str(folder) if local else geometry.text, local, ("pooler.",))
    width = bert.config.hidden_size
    if width != geometry.text_width:
        raise UserError(
            f"{folder if local else geometry.text} has features of width {width}, expected {geometry.text_width}: "
            f"put the weights of {geometry.text} there"
        )
    bert.pooler = None  # nothing reads it
    return bert, tokenizer


def _from_folder_or_hub(source: str, local: bool) -> SamModel:
    if local and not (Path(source) / "config.json").is_file():
        raise UserError(f"no weights at {source}: expected a folder of config.json and model.safetensors")
    try:
        return read_library(SamModel, source, local)
    except (OSError, SafetensorError) as error:
        if local:
            raise UserError(f"the weights in {source} cannot be read: {error}") from error
        raise UserError(
            f"{source} is not on this machine and could not be fetched: connect to the network once, "
            "or pass a local folder with --weights"
        ) from error


def _check_kind(library: SamModel, size: str, source: str) -> None:
    expected, found = sam_config(size).vision_config, library.config.vision_config
    for key in ("hidden_size", "num_hidden_layers"):
        if getattr(found, key) != getattr(expected, key):
            raise UserError(
                f"the SAM in {source} has {key} {getattr(found, key)}, size {size} has {getattr(expected, key)}: "
                "pass the size that it is of"
            )
