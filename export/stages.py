"""The three parts of a CLIPSeg that a bundle holds, each a module with one forward: image, text and decoder.

Shapes use B batch, T extracted activations, N tokens, R decoder width, S image side in pixels, L text length.
"""

from torch import Tensor, nn

from ..train.models.clipseg import Clipseg


class ImageStage(nn.Module):
    """Images to what the decoder needs of them: computed once for an image, whatever is asked of it."""

    def __init__(self, model: Clipseg) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return (B, T, N, R) from normalised images (B, 3, S, S)."""
        return self.model.image_embedding(self.model.image_states(pixel_values))


class TextStage(nn.Module):
    """Sentences to the decoder's modulation: computed once for a sentence, whatever image it is asked of."""

    def __init__(self, model: Clipseg) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return (B, 2, R) from int64 ids and mask (B, L)."""
        return self.model.text_embedding(self.model.text_states(input_ids, attention_mask))


class DecoderStage(nn.Module):
    """The two embeddings to logits."""

    def __init__(self, model: Clipseg) -> None:
        super().__init__()
        self.model = model

    def forward(self, image_embedding: Tensor, text_embedding: Tensor) -> Tensor:
        """Return logits (B, 1, S, S) from (B, T, N, R) and (B, 2, R)."""
        return self.model.decode(image_embedding, text_embedding)
