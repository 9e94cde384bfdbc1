"""The parts of a promptable model as a bundle holds them: what each is called, takes, gives and does.

Parts feed each other by name. The image part also gives what the text needs of the image, where a model has that; or it
takes what the text part makes, and the decoder then reads the image alone.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from .promptable import Promptable, States

CONTEXT = "image_context"


class Seen(NamedTuple):
    """An image's states, and what the text needs of it: one tensor (B, W), or none."""

    states: Any
    context: tuple[Tensor, ...]


def see(model: Promptable, pixel_values: Tensor) -> Seen:
    """Return what can be known of images, float (B, 3, S, S), before any sentence."""
    states = model.image_states(pixel_values)
    return Seen(states, (model.image_context(states),) if model.text_depends_on_image else ())


def several(states: States) -> tuple[Tensor, ...]:
    """Return the tensors of a stage as a tuple, of one or more."""
    return (states,) if isinstance(states, Tensor) else tuple(states)


def as_stage(tensors: Sequence[Tensor]) -> States:
    """Return the tensors of a stage as stages exchange them: one for itself, more as a tuple."""
    return tensors[0] if len(tensors) == 1 else tuple(tensors)


class Part(nn.Module):
    """One part of a model: tensors in and out, batch first, in the order of `inputs` and `outputs`."""

    def __init__(self, model: Promptable, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of one batch."""
        raise NotImplementedError


class ImagePart(Part):
    """Images to what the decoder needs of them, and to what the text needs of them where it does."""

    def __init__(self, model: Promptable) -> None:
        context = (CONTEXT,) if model.text_depends_on_image else ()
        heard = model.text_outputs if model.image_depends_on_text else ()
        super().__init__(model, ("pixel_values", *heard), (*model.image_outputs, *context))

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Return the image's embedding from normalised images (B, 3, S, S), and from the text's where it is heard."""
        pixel_values, *text = given
        seen = see(self.model, pixel_values)
        heard = (as_stage(text),) if text else ()
        return (*several(self.model.image_embedding(seen.states, *heard)), *seen.context)


class TextPart(Part):
    """Sentences to what the decoder needs of them."""

    def __init__(self, model: Promptable) -> None:
        context = (CONTEXT,) if model.text_depends_on_image else ()
        super().__init__(model, ("input_ids", "attention_mask", *context), model.text_outputs)

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Return the sentence's embedding from int64 ids and mask (B, L), and from the image's context where it is."""
        return several(self.model.text_embedding(self.model.text_states(*given)))


class DecoderPart(Part):
    """The embeddings of an image and a sentence to logits."""

    def __init__(self, model: Promptable) -> None:
        text = () if model.image_depends_on_text else model.text_outputs
        super().__init__(model, (*model.image_outputs, *text), ("logits",))

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Return logits (B, 1, S, S)."""
        split = len(self.model.image_outputs)
        return (self.model.decode(as_stage(given[:split]), as_stage(given[split:])),)


def parts_of(model: Promptable) -> dict[str, Part]:
    """Return the parts of a model by name, as a bundle calls them."""
    return {"image": ImagePart(model), "text": TextPart(model), "decoder": DecoderPart(model)}


def facts_of(model: Promptable) -> dict[str, Any]:
    """Return what a manifest says of a model itself, by the manifest's own field names."""
    ends = {
        name: {"inputs": list(part.inputs), "outputs": list(part.outputs)} for name, part in parts_of(model).items()
    }
    return {
        "backbone": model.backbone,
        "weights_hash": model.weights_hash,
        "image_size": model.image_size,
        "mean": model.mean,
        "std": model.std,
        "text_depends_on_image": model.text_depends_on_image,
        "needs_words": model.needs_words,
        "flow": ends,
    }
