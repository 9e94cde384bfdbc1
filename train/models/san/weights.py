"""Where the CLIP under a side adapter comes from: the embedded segmenter's, a local folder, the hub, or drawn."""

import torch
from safetensors.torch import load_file
from transformers import CLIPModel

from ....deploy.words import Tokenizer
from ..backbone import from_folder_or_hub, small_tokenizer, weights_hash
from ..sizes import TINY
from .san import San
from .sizes import SAN_SIZES, config_of


def load_san(size: str, weights: str | None = None, image_size: int | None = None) -> San:
    """Return a CLIP of `size` without its side adapter, every parameter in float32.

    `weights`: None for the size's own, "random", or a folder with config.json, model.safetensors and a tokenizer.
    """
    geometry = SAN_SIZES[size]
    if weights == "random" or (weights is None and size == "nano"):
        config = config_of(size)
        library, tokenizer = CLIPModel(config), small_tokenizer(config.text_config.vocab_size)  # type: ignore[union-attr]
    elif weights is None and size == "tiny":
        library, tokenizer = _embedded(), Tokenizer.load(TINY / "tokenizer.json")
    else:
        library, tokenizer = from_folder_or_hub(CLIPModel, weights or geometry.backbone, local=weights is not None)
    model = San(library, tokenizer, geometry, image_size or geometry.image_size)
    if weights is not None:
        model.backbone = weights
    if not any(p.is_meta for p in model.parameters()):
        model.weights_hash = weights_hash(model)
    return model


def _embedded() -> CLIPModel:
    """Return the two encoders of the embedded CLIPSeg, which learned from masks and not by contrast.

    Its last image layer and the projection of images never reached a mask, and are as they were drawn.
    """
    library = CLIPModel(config_of("tiny"))
    state = {name: tensor.to(torch.float32) for name, tensor in load_file(TINY / "model.safetensors").items()}
    encoders = {name.removeprefix("clip."): tensor for name, tensor in state.items() if name.startswith("clip.")}
    library.load_state_dict(encoders, strict=True)
    return library
