"""SAN, the side adapter network (Xu et al., CVPR 2023, arXiv 2302.12242), for one prompt, as five stages.

A small network beside a frozen CLIP proposes masks and biases CLIP's attention, so that CLIP itself says what each mask
shows. The paper compares each proposal with many class names and with "nothing". Here one sentence is asked: there is
no other name, so the proposals are compared with each other, by a softmax over them of CLIP's scaled cosine, and the
answer is their mean so weighted. What depends on the image alone is done once for it, whatever is asked.

`released` repeats what VLSM-Adapter's code (arXiv 2405.06196) makes of it; docs/fidelity.md has the list.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPModel

from ....deploy.errors import UserError
from ....deploy.words import Tokenizer
from ..fold import fold_positions
from ..promptable import Promptable
from .masks import MaskHead
from .recognition import Recognition
from .side import SideAdapter
from .sizes import SanSize

CLIP_SCALE = 0.5


class San(Promptable):
    """A frozen CLIP, to which `equip` adds the side adapter.

    Shapes below use B batch, S `image_size`, n patches that CLIP sees, D its vision width, W width of its common space,
    K states of it that are read, Q proposals, G side of the adapter's grid, L text length.
    """

    image_outputs = ("masks", "regions")
    prefixes = {  # noqa: RUF012 - of the class, never changed
        "image": ("library.vision_model.",),
        "text": ("library.text_model.", "library.text_projection."),
    }

    def __init__(self, library: CLIPModel, tokenizer: Tokenizer, size: SanSize, image_size: int) -> None:
        super().__init__()
        config: Any = library.config.vision_config
        self.patch_size: int = config.patch_size
        if image_size <= 0 or image_size % (2 * self.patch_size):
            raise UserError(
                f"image_size {image_size} is not a positive multiple of {2 * self.patch_size}, "
                f"twice the patch size of {size.backbone}"
            )
        self.total = sum(p.numel() for p in library.parameters())
        self.mean, self.std = size.mean, size.std
        self.backbone = size.backbone
        self.weights_hash = ""
        self.image_size = image_size
        self.tokenizer = tokenizer
        self.learner: Any = None
        self.library: Any = library  # its sub-modules are torch attributes, unknown to type checkers
        self.released = False
        self.taps: list[int] = []
        self.first = size.features[-1]
        self.recognition = _take_last_layers(self.library, self.first, size.queries, self._grid(CLIP_SCALE) ** 2)

    @property
    def vision(self) -> Any:
        """CLIP's image encoder, up to the state that proposals are recognised from."""
        return self.library.vision_model

    @property
    def text(self) -> Any:
        """CLIP's text encoder."""
        return self.library.text_model

    def equip(self, size: SanSize, released: bool) -> None:
        """Add the side adapter, newly drawn.

        As the paper means it, the states of `size.features` enter at positions 0, 1, 2 and so on. The released map is
        read the wrong way round: states 0, 1, 2 and so on enter at the positions that `features` names.
        """
        sources = dict(enumerate(size.features))
        if released:
            sources = {position: state for state, position in sources.items()}
        self.released = released
        self.taps = sorted({*sources.values(), self.first})
        config: Any = self.library.config.vision_config
        self.side = SideAdapter(size, self._grid(1), self.patch_size, config.hidden_size, sources)
        self.masks = MaskHead(size.width, size.channels, config.num_attention_heads)

    def image_states(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images (B, 3, S, S) as they are, and the CLIP states that are read, (B, K, 1 + n, D)."""
        half = nn.functional.interpolate(pixel_values, scale_factor=CLIP_SCALE, mode="bilinear", align_corners=False)
        states = self.vision(half, interpolate_pos_encoding=True, output_hidden_states=True).hidden_states
        taken = torch.stack([states[k] for k in self.taps], dim=1)
        return pixel_values, taken.detach() if self.released else taken

    def text_states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode sentences, int64 (B, L) each, into CLIP's common space: (B, W)."""
        return self.library.text_projection(self.text(input_ids, attention_mask=attention_mask).pooler_output)

    def image_embedding(self, image_states: tuple[Tensor, Tensor], *text_embedding: Any) -> tuple[Tensor, Tensor]:
        """Return the proposals: mask logits (B, Q, G, G) and what CLIP says of each, unit vectors (B, Q, W)."""
        pixel_values, taken = image_states
        states = dict(zip(self.taps, taken.unbind(1), strict=True))
        masks, biases = self.masks(*self.side(pixel_values, states))
        grid = self.side.grid
        # the adapter's grid is twice as fine as CLIP's
        biases = nn.functional.max_pool2d(biases.unflatten(3, (grid, grid)).flatten(1, 2), 2)
        biases = biases.flatten(2).unflatten(1, (-1, masks.shape[1]))
        regions = self.recognition(states[self.first], biases.detach() if self.released else biases)
        return masks.unflatten(2, (grid, grid)), regions

    def text_embedding(self, text_states: Tensor) -> Tensor:
        """Return what each proposal is multiplied by, (B, W): the unit vector times CLIP's scale.

        The released code takes the mean over the products with the vector as it is, of any length.
        """
        if self.released:
            return text_states / text_states.shape[1]
        return nn.functional.normalize(text_states, dim=-1) * self.library.logit_scale.exp()

    def decode(self, image_embedding: tuple[Tensor, Tensor], text_embedding: Tensor) -> Tensor:
        """Return logits (B, 1, S, S): the proposals' masks, weighted by how well each fits the sentence."""
        masks, regions = image_embedding
        scores = torch.einsum("bqw,bw->bq", regions, text_embedding)
        weights = scores if self.released else scores.softmax(dim=1)
        logits = torch.einsum("bq,bqhw->bhw", weights, masks)[:, None]
        size = (self.image_size, self.image_size)
        return nn.functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)

    def fold(self) -> list[str]:
        """Resize CLIP's position table once, in place; return what was done, a phrase."""
        return [fold_positions(self.vision.embeddings, int(self.image_size * CLIP_SCALE))]

    def _grid(self, scale: float) -> int:
        return int(self.image_size * scale) // self.patch_size


def _take_last_layers(library: Any, first: int, queries: int, patches: int) -> Recognition:
    """Split CLIP's image encoder: what comes after `first` layers recognises proposals."""
    vision = library.vision_model
    layers = vision.encoder.layers
    vision.encoder.layers = layers[:first]
    last = Recognition(layers[first:], vision.post_layernorm, library.visual_projection, queries, patches)
    vision.post_layernorm = library.visual_projection = nn.Identity()
    return last
