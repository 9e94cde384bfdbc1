"""Which parts a bundle has, under which file names, with which inputs, outputs and axes."""

from collections.abc import Sequence

import torch

from ..deploy.words import Tokenizer
from .graph import Part
from .precision import in_precision
from .prepare import Prepared

FILES = {"image": "image.onnx", "text": "text.onnx", "decoder": "decoder.onnx"}
_EXAMPLES = ("one word", "a few more of them")
_BATCH, _BATCH_LENGTH = {0: "batch"}, {0: "batch", 1: "length"}


@torch.no_grad()
def part_of(name: str, prepared: Prepared, precision: str) -> Part:
    """Return the part called `name` (image, text or decoder) of a prepared model."""
    side = prepared.model.image_size
    image = torch.zeros(len(_EXAMPLES), 3, side, side)
    input_ids, attention_mask = tokens(prepared.model.tokenizer, _EXAMPLES)
    if name == "image":
        axes = {"pixel_values": _BATCH, "image_embedding": _BATCH}
        return Part(in_precision(prepared.image, precision), {"pixel_values": image}, axes, "image_embedding")
    if name == "text":
        given = {"input_ids": input_ids, "attention_mask": attention_mask}
        axes = {**dict.fromkeys(given, _BATCH_LENGTH), "text_embedding": _BATCH}
        return Part(in_precision(prepared.text, precision), given, axes, "text_embedding")
    given = {"image_embedding": prepared.image(image), "text_embedding": prepared.text(input_ids, attention_mask)}
    axes = {**dict.fromkeys(given, _BATCH), "logits": _BATCH}
    return Part(in_precision(prepared.decoder, precision), given, axes, "logits")


def tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return input_ids and attention_mask, int64 (B, L)."""
    input_ids, attention_mask = tokenizer(texts)
    return torch.from_numpy(input_ids), torch.from_numpy(attention_mask)
