"""SAM (Kirillov et al., arXiv 2304.02643) as five stages over transformers' own modules, without prompts of its own.

The image encoder can read a sentence on its way (LGA): then the image part of a bundle takes what the text part makes,
and the decoder sees the image alone. Of the prompt encoder only the grid of positions is left.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ....deploy.errors import UserError
from ....deploy.words import Tokenizer
from ..promptable import Promptable
from .sizes import PATCH, SamSize

ENCODER, DECODER = "library.vision_encoder.", "library.mask_decoder."


class Sam(Promptable):
    """A frozen SAM; `fusions` and `report` are what `lga.py` adds.

    Shapes below use B batch, S `image_size` in pixels, G its grid (S / 16), D the encoder's width, C channels, L text
    length, K text tokens.

    Attributes:
        fusions: modules by the place they sit at, "0" being the input of the first layer, "12" the output of the last
            of twelve.
        report: turns a sentence into text tokens; None where nothing reads it.
        checkpointing: activations of the encoder's layers are computed again in the backward pass, not kept.
    """

    def __init__(self, library: Any, tokenizer: Tokenizer, size: SamSize, image_size: int) -> None:
        super().__init__()
        if image_size <= 0 or image_size % PATCH:
            raise UserError(f"image_size {image_size} is not a positive multiple of the patch size {PATCH}")
        self.total = sum(p.numel() for p in library.parameters())
        self.mean, self.std = size.mean, size.std
        self.backbone, self.weights_hash = size.backbone, ""
        self.image_size, self.tokenizer = image_size, tokenizer
        self.learner: Any = None
        self.library: Any = library
        self.register_buffer("positions", _positions(library, image_size // PATCH), persistent=False)
        self.positions: Tensor
        _trim(library)
        _resize(library.vision_encoder, image_size)
        self.fusions = nn.ModuleDict()
        self.report: Any = None
        self.checkpointing = False

    @property
    def vision(self) -> Any:
        """The image encoder."""
        return self.library.vision_encoder

    @property
    def depth(self) -> int:
        """Layers of the image encoder."""
        return len(self.vision.layers)

    @property
    def first(self) -> int | None:
        """The layer before which the first fusion sits; None without any."""
        return min(map(int, self.fusions), default=None)

    @property
    def prefixes(self) -> dict[str, tuple[str, ...]]:  # type: ignore[override]
        """How the names begin of what lies below the first fusion, and of the reader."""
        if self.first is None:
            return {"image": (ENCODER,), "text": ()}
        layers = (f"{ENCODER}layers.{i}." for i in range(self.first))
        return {"image": (f"{ENCODER}patch_embed.", f"{ENCODER}pos_embed", *layers), "text": ("report.reader.",)}

    @property
    def variant(self) -> str:  # type: ignore[override]
        """Where the image waits for the sentence, how pixels are normalised, and what is kept of a report."""
        heard = "" if self.report is None else f"/{self.report.tokens}/{self.report.limit}"
        return f"{self.first}/{self.mean}{heard}"

    @property
    def idle(self) -> tuple[str, ...]:  # type: ignore[override]
        """How the names begin of parameters that are published, counted and saved, but never get a gradient."""
        heads = [f"{DECODER}output_hypernetworks_mlps.{i}." for i in (1, 2, 3)]
        blind = [f"fusions.{place}.{name}" for place, one in self.fusions.items() for name in one.idle]  # type: ignore[union-attr]
        return (f"{DECODER}iou_prediction_head.", *heads, *blind)

    def image_states(self, pixel_values: Tensor) -> Tensor:
        """Encode normalised images (B, 3, S, S) up to the first fusion: (B, G, G, D); without any (B, C, G, G)."""
        # a convolution's output, channels moved last: the operators read rows whose channels lie side by side
        hidden = (self.vision.patch_embed(pixel_values) + self.vision.pos_embed).contiguous()
        for i in range(self.depth if self.first is None else self.first):
            hidden = self._layer(i, hidden)
        return self.vision.neck(hidden) if self.first is None else hidden

    def text_states(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        """Read sentences, int64 (B, L) each; ones (B, 1) where nothing listens."""
        if self.report is None or not self.image_depends_on_text:
            return attention_mask[:, :1].to(self.positions.dtype)
        return self.report.states(input_ids, attention_mask)

    def text_embedding(self, text_states: Any) -> Any:
        """Return the text tokens (B, K, D), and where there are several which of them are real, float (B, K)."""
        return self.report(text_states) if self.image_depends_on_text else text_states

    def image_embedding(self, image_states: Tensor, *text_embedding: Any) -> Tensor:
        """Return (B, C, G, G): the rest of the encoder, with the sentence where there are fusions."""
        if self.first is None:
            return image_states
        tokens, mask = self.heard(*text_embedding or (self.report.unsaid(image_states.shape[0]),))
        hidden = image_states
        for i in range(self.first, self.depth + 1):
            if str(i) in self.fusions:
                hidden, tokens = self.fusions[str(i)](hidden, tokens, mask)
            if i < self.depth:
                hidden = self._layer(i, hidden)
        return self.vision.neck(hidden)

    def decode(self, image_embedding: Tensor, text_embedding: Any) -> Tensor:
        """Return logits (B, 1, S, S) of the first mask token; the text counts in the image embedding alone."""
        if not self.image_depends_on_text:
            image_embedding = image_embedding * text_embedding[:, :, None, None]  # ones
        masks, _ = self.library.mask_decoder(
            image_embeddings=image_embedding,
            image_positional_embeddings=self.positions,
            sparse_prompt_embeddings=None,
            dense_prompt_embeddings=image_embedding.new_zeros(()),  # SAM's "no mask" is not added, as published
            multimask_output=False,
        )
        size = (self.image_size, self.image_size)
        return F.interpolate(masks[:, 0], size=size, mode="bilinear", align_corners=False)

    def heard(self, text_embedding: Any) -> tuple[Tensor, Tensor | None]:
        """Return the text tokens, and which are real, bool (B, K), where there may be several.

        Nobody hears the tokens behind the longest sentence, so they are left out; in a graph their number is fixed.
        """
        if isinstance(text_embedding, Tensor):
            return text_embedding, None
        tokens, there = text_embedding
        real = there > 0.5
        # constant text has more rows than tokens
        if tokens.shape[1] == real.shape[1] and not torch.compiler.is_compiling():
            heard = real.any(0).nonzero()
            longest = int(heard[-1]) + 1 if len(heard) else 1
            tokens, real = tokens[:, :longest], real[:, :longest]
        return tokens, real

    def _layer(self, index: int, hidden: Tensor) -> Tensor:
        layer = self.vision.layers[index]
        if self.checkpointing and torch.is_grad_enabled() and hidden.requires_grad:
            return checkpoint(layer, hidden, use_reentrant=False)  # type: ignore[return-value]
        return layer(hidden)


def _positions(library: Any, grid: int) -> Tensor:
    """Return SAM's random Fourier features of a grid, (1, C, G, G)."""
    library.config.prompt_encoder_config.image_embedding_size = grid
    return library.get_image_wide_positional_embeddings().detach()


def _trim(library: Any) -> None:
    """Drop the prompt encoder, and let the decoder answer with its first mask token alone."""
    library.prompt_encoder = library.shared_image_embedding = None
    library.mask_decoder.num_mask_tokens = 1  # the tokens stay, the other three are not turned into masks


@torch.no_grad()
def _resize(vision: Any, image_size: int) -> None:
    """Resize the table of positions; the library resizes relative ones itself."""
    grid = image_size // PATCH
    vision.patch_embed.image_size = (image_size, image_size)
    table = vision.pos_embed
    if table.shape[1] != grid:
        resized = F.interpolate(table.permute(0, 3, 1, 2), size=(grid, grid), mode="bicubic", align_corners=False)
        vision.pos_embed = nn.Parameter(resized.permute(0, 2, 3, 1).contiguous())
