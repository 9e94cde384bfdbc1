"""Where a CLIPSeg's weights come from: embedded, a local folder, the hub by name, or drawn at random."""

import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import AutoTokenizer, CLIPSegForImageSegmentation, PreTrainedModel

from ...deploy.errors import UserError
from ...deploy.words import Tokenizer
from .clipseg import Clipseg
from .image_vector import ImageVector
from .names import SHOWN
from .sizes import TINY, config_of, size_of

Library = TypeVar("Library", bound=PreTrainedModel)


def load_clipseg(size: str, weights: str | None = None, image_size: int | None = None) -> Clipseg:
    """Return a CLIPSeg of `size`, every parameter in float32.

    `weights`: None for the size's own, "random", or a folder with config.json, model.safetensors and a tokenizer.
    """
    geometry = size_of(size)
    if weights == "random" or (weights is None and size == "nano"):
        library, tokenizer = CLIPSegForImageSegmentation(config_of(size)), small_tokenizer(_vocabulary(size))
    elif weights is None and size == "tiny":
        library, tokenizer = _embedded(), Tokenizer.load(TINY / "tokenizer.json")
    else:
        source = weights or geometry.backbone
        library, tokenizer = from_folder_or_hub(CLIPSegForImageSegmentation, source, local=weights is not None)
    vector = ImageVector(library)
    model = Clipseg(library, tokenizer, geometry, image_size or geometry.image_size)
    if weights is not None:
        model.backbone = weights
    model.weights_hash = weights_hash(model)
    model.image_vector = vector  # only now: the hash is of what every method reads
    return model


def weights_hash(model: nn.Module) -> str:
    """Return the sha256 of every tensor of `model` by name, shape and bytes (float32); nothing on `meta`."""
    if any(p.is_meta for p in model.parameters()):
        return ""
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


def from_folder_or_hub(
    kind: type[Library], source: str, local: bool, spare: tuple[str, ...] = ()
) -> tuple[Library, Tokenizer]:
    """Return a library model of class `kind` in float32, and its tokenizer, from a folder (`local`) or a hub name.

    Parameters whose names begin with one of `spare` may be absent, since nothing reads them.

    Raises UserError where the folder lacks them, they cannot be read or are of another architecture, or the name cannot
    be fetched.
    """
    if local and not (Path(source) / "config.json").is_file():
        raise UserError(f"no weights at {source}: expected a folder of config.json, model.safetensors and a tokenizer")
    try:
        library = read_library(kind, source, local, spare)
        words = AutoTokenizer.from_pretrained(source, local_files_only=local).backend_tokenizer.to_str()
    except (OSError, SafetensorError) as error:
        if local:
            raise UserError(f"the weights in {source} cannot be read: {error}") from error
        raise UserError(
            f"{source} is not on this machine and could not be fetched: connect to the network once, "
            "or pass a local folder with --weights"
        ) from error
    # a foreign file says what it was last asked to cut to
    return library, Tokenizer(words).cut_to()


def read_library(kind: type[Library], source: str, local: bool, spare: tuple[str, ...] = ()) -> Library:
    """Return a library model of class `kind` in float32, every parameter of it from a folder (`local`) or a hub name.

    What else the checkpoint holds is left. UserError where it lacks a parameter or has it in another shape: the library
    itself would draw a new one and go on. Otherwise its errors, OSError and SafetensorError.
    """
    loaded: Any = kind.from_pretrained(
        source,
        use_safetensors=True,
        local_files_only=local,
        dtype=torch.float32,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    library, found = loaded
    wrong = [f"{name} is absent" for name in sorted(found["missing_keys"]) if not name.startswith(spare)]
    wrong += [f"{name} is {tuple(own)}, expected {tuple(other)}" for name, own, other in found["mismatched_keys"]]
    if wrong:
        more = f", and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise UserError(f"{source} is of another architecture: {'; '.join(wrong[:SHOWN])}{more}")
    return library


def small_tokenizer(vocabulary: int) -> Tokenizer:
    """Return the embedded tokenizer with its end token moved to the last id of a vocabulary."""
    words = json.loads((TINY / "tokenizer.json").read_text())
    return Tokenizer(json.dumps(move_specials(words, vocabulary)))


def _vocabulary(size: str) -> int:
    text: Any = config_of(size).text_config
    return text.vocab_size


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
