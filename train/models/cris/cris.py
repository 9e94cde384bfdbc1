"""CRIS (Wang et al., CVPR 2022, arXiv 2111.15174) as five stages: CLIP RN50, neck, decoder, projector.

Parameters are named as in the released checkpoints, `clip` for their `backbone`. The neck reads image and sentence
early, so what a bundle's parts exchange are the neck's maps of the image alone, and what the sentence alone makes:
words, gate and kernel.
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from ....deploy.errors import UserError
from ....deploy.words import Tokenizer
from ..fold import fold_prompts
from ..image_vector import seeing
from ..promptable import Promptable
from ..room import with_room
from .backbone import ClipBackbone
from .cubic import Cubic
from .decoder import Decoder
from .neck import Neck
from .projector import CrisUpsampler, Projector
from .sizes import CrisSize

Maps = tuple[Tensor, Tensor, Tensor]
STRIDE = 32


class Cris(Promptable):
    """A promptable segmenter: image and sentence in, logits out.

    Shapes below use B batch, S `image_size` in pixels, L text length, K the context of 77 tokens, W text width, E
    embedding width, C channels.

    Attributes:
        text_prompts: how many rows a learner puts behind the begin token.
        padding_counts: padding takes part in the decoder's attention, as in the code released with VLSM-Adapter.
        upsampler: the learnable upsampler beside the projector, or None.
    """

    image_outputs = ("image_fine", "image_middle", "image_coarse")
    text_outputs = ("words", "words_mask", "text_gate", "text_kernel")
    prefixes = {  # noqa: RUF012 - of the class, never changed
        "image": ("clip.visual.",),
        "text": (
            "clip.transformer.",
            "clip.token_embedding.",
            "clip.positional_embedding",
            "clip.ln_final.",
            "clip.text_projection",
        ),
    }

    def __init__(self, size: CrisSize, tokenizer: Tokenizer, image_size: int) -> None:
        super().__init__()
        if image_size <= 0 or image_size % STRIDE:
            raise UserError(f"image_size {image_size} is not a positive multiple of {STRIDE}")
        self.backbone, self.weights_hash = size.backbone, ""
        self.mean, self.std = size.mean, size.std
        self.image_size, self.tokenizer, self.size = image_size, tokenizer, size
        # of the states, whatever learned prompts leave of it for words
        self.context = tokenizer.context
        self.clip = ClipBackbone(size, self.context)
        self.neck, self.decoder, self.proj = Neck(size), Decoder(size), Projector(size)
        self.enlarge = Cubic(image_size // 4, image_size)
        self.total = 1 + sum(p.numel() for p in self.parameters())  # CLIP's temperature never reaches a mask
        self.learner: Any = None
        self.text_prompts = 0
        self.padding_counts = False
        self.upsampler: CrisUpsampler | None = None

    @property
    def word_table(self) -> Tensor:
        """The embeddings of its words, (vocabulary, W)."""
        return self.clip.token_embedding.weight

    def image_states(self, pixel_values: Tensor) -> Maps:
        """Encode images, float (B, 3, S, S) normalised, into C3, C4 and C5 at 1/8, 1/16 and 1/32."""
        return self.clip.visual(pixel_values)

    def image_context(self, image_states: Maps) -> Tensor:
        """Return the mean of C5 over its pixels, (B, E): what CoCoOp's words depend on."""
        return image_states[2].mean(dim=(2, 3))

    def text_states(self, input_ids: Tensor, attention_mask: Tensor, context: Tensor | None = None) -> Maps:
        """Encode sentences, int64 (B, L) each, into words (B, K, W), their mask (B, K), float, and sentence (B, E).

        `context` is (B, E), the images' vectors, for a learner whose prompts depend on them.

        Padded to the context, so that the states of sentences alone can be put together, and an export has one length.
        """
        ids, mask = with_room(input_ids, attention_mask, self.text_prompts, self.context)
        with seeing(context) if context is not None else nullcontext():
            words, sentence = self.clip.words(ids)
        heard = torch.ones_like(mask) if self.padding_counts else mask
        return words, heard.to(words.dtype), sentence

    def image_embedding(self, image_states: Maps, *text_embedding: Any) -> Maps:
        """Return what the neck reads of the image alone: maps at 1/16, 1/16 and 1/32."""
        return self.neck.image(*image_states)

    def text_embedding(self, text_states: Maps) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return words and mask as they are, the neck's factors (B, C) and the projector's kernel (B, 9 C + 1)."""
        words, mask, sentence = text_states
        return words, mask, self.neck.gate(sentence), self.proj.kernel(sentence)

    def decode(self, image_embedding: Maps, text_embedding: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        """Return logits (B, 1, S, S) from the two embeddings."""
        words, mask, gate, kernel = text_embedding
        picture = self.decoder(self.neck(*image_embedding, gate), words, mask)
        logits = self.enlarge(self.proj(picture, kernel))
        return logits if self.upsampler is None else self.upsampler(logits, picture)

    def fold(self) -> list[str]:
        """Fold in place what no image and no sentence changes; return what was done, one phrase each."""
        return [self.clip.visual.attnpool.fold(self.image_size // STRIDE), *fold_prompts(self)]
