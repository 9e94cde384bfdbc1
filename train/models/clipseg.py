"""CLIPSeg as five stages over transformers' own modules, so that each can be adapted, cached and exported.

The library's forward runs both encoders under `no_grad`; composing its parts lets gradients through and skips what
never reaches the mask (Lueddecke & Ecker, arXiv 2112.10003, figure 2).
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPSegForImageSegmentation

from ...deploy.errors import UserError
from ...deploy.words import Tokenizer
from .image_vector import seeing
from .promptable import Promptable
from .room import with_room
from .sizes import Size


class Clipseg(Promptable):
    """A promptable segmenter: image and sentence in, logits out.

    Shapes below use B batch, T extracted activations (3), N tokens (grid * grid + 1), D vision width, W text width,
    R decoder width, S `image_size` in pixels, L text length.
    """

    prefixes = {  # noqa: RUF012 - of the class, never changed
        "image": ("library.clip.vision_model.", "image_vector."),
        "text": ("library.clip.text_model.", "library.clip.text_projection."),
    }

    def __init__(self, library: CLIPSegForImageSegmentation, tokenizer: Tokenizer, size: Size, image_size: int) -> None:
        super().__init__()
        config: Any = library.config
        self.patch_size: int = config.vision_config.patch_size
        if image_size <= 0 or image_size % self.patch_size:
            raise UserError(f"image_size {image_size} is not a positive multiple of the patch size {self.patch_size}")
        self.total = sum(p.numel() for p in library.parameters())
        self.mean, self.std = size.mean, size.std
        self.backbone = size.backbone
        self.weights_hash = ""
        self.image_size = image_size
        self.tokenizer = tokenizer
        self.extract = [i + 1 for i in config.extract_layers]
        self.library: Any = library  # its sub-modules are torch attributes, unknown to type checkers
        _trim(library, max(self.extract))
        # places of the shallow adapters: a method replaces the identities, and fills `text_taps` to make them count
        self.vision_taps = nn.ModuleList(nn.Identity() for _ in self.extract)
        self.text_taps = nn.ModuleList()
        self.condition: nn.Module = nn.Identity()
        # what is left of the image encoder, for text that depends on the image
        self.image_vector: Any = None
        # a prompt learner, and how many rows it puts behind the begin token
        self.learner: Any = None
        self.text_prompts = 0

    @property
    def vision(self) -> Any:
        """The image encoder, without the layers that never reach the mask."""
        return self.library.clip.vision_model

    @property
    def text(self) -> Any:
        """The text encoder."""
        return self.library.clip.text_model

    @property
    def encoder_layers(self) -> list[Any]:
        """Every layer of both encoders, those behind the mask's reach among them where they are kept."""
        rest = self.image_vector.layers if self.image_vector is not None else ()
        return [*self.vision.encoder.layers, *self.text.encoder.layers, *rest]

    @property
    def word_table(self) -> Tensor:
        """The embeddings of its words, (vocabulary, W)."""
        return self.text.embeddings.token_embedding.weight

    def image_states(self, pixel_values: Tensor) -> Tensor:
        """Encode images, float (B, 3, S, S) normalised, into the extracted activations (B, T, N, D)."""
        states = self.vision(pixel_values, output_hidden_states=True).hidden_states
        return torch.stack([states[k] for k in self.extract], dim=1)

    def image_context(self, image_states: Tensor) -> Tensor:
        """Return CLIP's vector of each image, (B, P), from its activations."""
        return self.image_vector(image_states[:, -1])

    def text_states(self, input_ids: Tensor, attention_mask: Tensor, context: Tensor | None = None) -> Tensor:
        """Encode sentences, int64 (B, L) each, into (B, 1 + T, W).

        `context` is (B, P), the images' vectors, for a learner whose prompts depend on them.

        Row 0 is the projected sentence vector, the others are the raw hidden states of the end token where the image
        encoder is tapped too (read by the shallow language adapters).
        """
        if self.text_prompts:
            room = self.text_prompts, input_ids.shape[1] + self.text_prompts
            input_ids, attention_mask = with_room(input_ids, attention_mask, *room)
        with seeing(context) if context is not None else nullcontext():
            out = self.text(input_ids, attention_mask=attention_mask, output_hidden_states=True)
        # the end token has the largest id; int32 because ONNX has no arg-max of int64 on every runtime
        end = input_ids.to(torch.int32).argmax(dim=-1)
        rows = torch.arange(input_ids.shape[0], device=input_ids.device)
        sentence = self.library.clip.text_projection(out.pooler_output)
        return torch.stack([sentence, *(out.hidden_states[k][rows, end] for k in self.extract)], dim=1)

    def image_embedding(self, image_states: Tensor, *text_embedding: Any) -> Tensor:
        """Reduce the activations (B, T, N, D) to the decoder's width: (B, T, N, R)."""
        # the library walks the activations from deepest to shallowest, so its first reduction is for the last one
        reduces = list(self.library.decoder.reduces)[::-1]
        taps = zip(self.vision_taps, reduces, image_states.unbind(1), strict=True)
        return torch.stack([reduce(tap(state)) for tap, reduce, state in taps], dim=1)

    def text_embedding(self, text_states: Tensor) -> Tensor:
        """Turn text states (B, 1 + T, W) into the decoder's modulation (B, 2, R): factor, then offset."""
        sentence, *hidden = text_states.unbind(1)
        condition = self.condition(sentence)
        for tap, state in zip(self.text_taps, hidden, strict=False):  # none, or one for each
            condition = condition + tap(state)
        decoder = self.library.decoder
        return torch.stack([decoder.film_mul(condition), decoder.film_add(condition)], dim=1)

    def drop_unread(self) -> None:
        """Drop the rest of the image encoder, unless the text depends on it."""
        if not self.text_depends_on_image:
            self.image_vector = None

    def decode(self, image_embedding: Tensor, text_embedding: Tensor) -> Tensor:
        """Return logits (B, 1, S, S) from the two embeddings."""
        factor, offset = text_embedding[:, :1], text_embedding[:, 1:]
        decoder = self.library.decoder
        tokens = torch.zeros_like(image_embedding[:, 0])
        for i, layer in enumerate(decoder.layers):
            tokens = tokens + image_embedding[:, -1 - i]
            if i == decoder.conditional_layer:
                tokens = factor * tokens + offset
            tokens = layer(tokens, attention_mask=None)
        grid = self.image_size // self.patch_size
        # the first is the class token; behind the patches there may be learned prompts
        picture = tokens[:, 1 : 1 + grid * grid].transpose(1, 2).unflatten(2, (grid, grid))
        return decoder.transposed_convolution(picture)


def _trim(library: Any, depth: int) -> None:
    """Drop what never reaches the mask: late vision layers, the vision pooling and the contrastive head."""
    vision = library.clip.vision_model
    vision.encoder.layers = vision.encoder.layers[:depth]
    vision.post_layernorm = nn.Identity()
    library.clip.visual_projection = nn.Identity()
    library.clip.logit_scale = None
