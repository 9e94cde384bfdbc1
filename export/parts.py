"""Which files a bundle has, and each part as what a graph is made of: examples of its inputs, and its axes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..deploy.flow import GIVEN, Flow
from ..deploy.words import Tokenizer
from .graph import Source
from .prepare import Prepared

FILES = {"image": "image.onnx", "text": "text.onnx", "decoder": "decoder.onnx"}
_EXAMPLES = ("one word", "a few more of them")
_BATCH, _BATCH_LENGTH = {0: "batch"}, {0: "batch", 1: "length"}


@torch.no_grad()
def sources_of(prepared: Prepared) -> dict[str, Source]:
    """Return every part of a prepared model by name, in float32; each is run, to have examples for the next.

    Batch is free everywhere, the number of tokens where sentences come in; all that parts hand each other is fixed.
    """
    side = prepared.model.image_size
    input_ids, attention_mask = tokens(prepared.model.tokenizer, _EXAMPLES)
    made = {"pixel_values": torch.zeros(len(_EXAMPLES), 3, side, side)}
    made |= {"input_ids": input_ids, "attention_mask": attention_mask}
    flow, sources = Flow(prepared.flow), {}
    for name in flow.order:
        part = prepared.parts[name]
        inputs, outputs = {key: made[key] for key in flow.inputs[name]}, flow.outputs[name]
        made |= zip(outputs, part(*inputs.values()), strict=True)
        axes = {key: _BATCH_LENGTH if GIVEN.get(key) == "prompt" else _BATCH for key in (*inputs, *outputs)}
        sources[name] = Source(part, inputs, axes, outputs)
    return sources


def tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return input_ids and attention_mask, int64 (B, L)."""
    input_ids, attention_mask = tokenizer(texts)
    return torch.from_numpy(input_ids), torch.from_numpy(attention_mask)
