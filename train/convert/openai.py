"""From the names of OpenAI's CLIP (ViT) and of CLIPSeg's own release to those of transformers."""

import re
from collections.abc import Iterator, Mapping

from torch import Tensor

Tensors = dict[str, Tensor]

NUMBERS = ("input_resolution", "context_length", "vocab_size")
"""Numbers that OpenAI's archives hold among the tensors."""
_WHOLE = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "logit_scale": "logit_scale",
}
_TURNED = {"text_projection": "text_projection.weight", "visual.proj": "visual_projection.weight"}
"""Matrices that stand on the right of a product there and on the left in a linear layer."""
_STARTS = {
    "ln_final.": "text_model.final_layer_norm.",
    "visual.ln_pre.": "vision_model.pre_layrnorm.",
    "visual.ln_post.": "vision_model.post_layernorm.",
}
_BLOCK = {
    "attn.": "self_attn.",
    "ln_1.": "layer_norm1.",
    "ln_2.": "layer_norm2.",
    "mlp.c_fc.": "mlp.fc1.",
    "mlp.c_proj.": "mlp.fc2.",
}
_LAYER = {
    "self_attn.": "self_attn.",
    "norm1.": "layer_norm1.",
    "norm2.": "layer_norm2.",
    "linear1.": "mlp.fc1.",
    "linear2.": "mlp.fc2.",
}


def clip_names(tensors: Mapping[str, Tensor]) -> Tensors:
    """Return the tensors of OpenAI's CLIP (ViT) under the names of transformers' `CLIPModel`."""
    return dict(pair for name, tensor in tensors.items() if name not in NUMBERS for pair in _clip(name, tensor))


def clipseg_names(tensors: Mapping[str, Tensor]) -> Tensors:
    """Return the tensors of CLIPSeg's release, CLIP's among them, under transformers' names.

    What never reached a mask there is left out: `reduce`, and the second name of the image encoder.
    """
    named: Tensors = {}
    for name, tensor in tensors.items():
        if name.startswith("clip_model."):
            inside = name.removeprefix("clip_model.")
            named |= {f"clip.{new}": part for new, part in clip_names({inside: tensor}).items()}
        elif not name.startswith(("model.", "reduce.")):
            named |= {f"decoder.{new}": part for new, part in _decoder(name, tensor)}
    return named


def with_clip(decoder: Mapping[str, Tensor], clip: Mapping[str, Tensor]) -> Tensors:
    """Return CLIPSeg's decoder and OpenAI's CLIP as one checkpoint, as CLIPSeg's own code names them together."""
    return dict(decoder) | {f"clip_model.{name}": tensor for name, tensor in clip.items()}


def _clip(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    block = re.fullmatch(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)", name)
    if block:
        tower = "vision_model" if block[1] else "text_model"
        yield from _split(f"{tower}.encoder.layers.{block[2]}.{_swap(block[3], _BLOCK)}", tensor)
    elif name in _TURNED:
        yield _TURNED[name], tensor.T
    else:
        yield _WHOLE.get(name) or _swap(name, _STARTS), tensor


def _decoder(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    block = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
    if block:
        yield from _split(f"layers.{block[1]}.{_swap(block[2], _LAYER)}", tensor)
    else:
        yield _swap(name, {"trans_conv.": "transposed_convolution."}), tensor


def _split(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield query, key and value of an attention's one matrix apart, and anything else as it is."""
    place, found, end = name.partition("in_proj_")
    if not found:
        yield name, tensor
        return
    for letter, part in zip("qkv", tensor.chunk(3), strict=True):
        yield f"{place}{letter}_proj.{end}", part


def _swap(name: str, starts: Mapping[str, str]) -> str:
    for old, new in starts.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
