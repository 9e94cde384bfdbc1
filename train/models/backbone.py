"""Where a CLIPSeg's weights come from: embedded, a local folder, the hub by name, or drawn at random."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import AutoTokenizer, CLIPSegForImageSegmentation

from ...deploy.errors import UserError
from ...deploy.words import Tokenizer
from .clipseg import Clipseg
from .sizes import TINY, config_of, size_of


def load_clipseg(size: str, weights: str | None = None, image_size: int | None = None) -> Clipseg:
    """Return a CLIPSeg of `size`, every parameter in float32.

    `weights`: None for the size's own, "random", or a folder with config.json, model.safetensors and a tokenizer.
    """
    geometry = size_of(size)
    if weights == "random" or (weights is None and size == "nano"):
        library, tokenizer = CLIPSegForImageSegmentation(config_of(size)), _small_tokenizer(size)
    elif weights is None and size == "tiny":
        library, tokenizer = _embedded(), Tokenizer.load(TINY / "tokenizer.json")
    else:
        library, tokenizer = _from_folder_or_hub(weights or geometry.backbone, local=weights is not None)
    model = Clipseg(library, tokenizer, geometry, image_size or geometry.image_size)
    if weights is not None:
        model.backbone = weights
    if not any(p.is_meta for p in model.parameters()):
        model.weights_hash = weights_hash(model)
    return model


def weights_hash(model: nn.Module) -> str:
    """Return the sha256 of every tensor of `model` by name, shape and bytes (float32)."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy())
    return digest.hexdigest()


def _embedded() -> CLIPSegForImageSegmentation:
    library = CLIPSegForImageSegmentation(config_of("tiny"))
    state = {name: tensor.float() for name, tensor in load_file(TINY / "model.safetensors").items()}
    library.load_state_dict(state, strict=True)
    return library


def _from_folder_or_hub(source: str, local: bool) -> tuple[CLIPSegForImageSegmentation, Tokenizer]:
    if local and not (Path(source) / "config.json").is_file():
        raise UserError(f"no weights at {source}: expected a folder of config.json, model.safetensors and a tokenizer")
    try:
        library = CLIPSegForImageSegmentation.from_pretrained(
            source, use_safetensors=True, local_files_only=local, dtype=torch.float32
        )
        words = AutoTokenizer.from_pretrained(source, local_files_only=local).backend_tokenizer.to_str()
    except (OSError, SafetensorError) as error:
        if local:
            raise UserError(f"the weights in {source} cannot be read: {error}") from error
        raise UserError(
            f"{source} is not on this machine and could not be fetched: connect to the network once, "
            "or pass a local folder with --weights"
        ) from error
    return library, Tokenizer(words)


def _small_tokenizer(size: str) -> Tokenizer:
    """Return the embedded tokenizer with its end token moved to the last id of the size's vocabulary."""
    words = json.loads((TINY / "tokenizer.json").read_text())
    text: Any = config_of(size).text_config
    return Tokenizer(json.dumps(move_specials(words, text.vocab_size)))


def move_specials(words: dict, vocab_size: int) -> dict:
    """Give the two special tokens of a tokenizer's JSON the last two ids of a larger vocabulary."""
    old = {token["content"]: token["id"] for token in words["added_tokens"]}
    first = vocab_size - len(old)
    new = {content: first + rank for rank, (content, _) in enumerate(sorted(old.items(), key=lambda item: item[1]))}
    for token in words["added_tokens"]:
        token["id"] = new[token["content"]]
    for content, index in new.items():
        words["model"]["vocab"].pop(content, None)
        words["model"]["vocab"][content] = index
        if content in words["post_processor"].get("special_tokens", {}):
            words["post_processor"]["special_tokens"][content]["ids"] = [index]
    return words
