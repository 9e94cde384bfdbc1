"""A segmenter that never reads its sentence, as the five stages that every other model has.

So the image-only networks that papers compare with train, are judged and leave by the same road.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ....deploy.errors import UserError
from ....deploy.words import Tokenizer
from ..backbone import weights_hash
from ..promptable import Promptable
from ..sizes import TINY
from .sizes import IMAGE_SIZES, ImageSize


class PictureModel(Promptable):
    """A network from pictures to logits, given by `equip`; its image part is all of it, its decoder hands on.

    Shapes below use B batch, S `image_size`, L text length.
    """

    image_outputs = ("image_logits",)
    prefixes = {"image": ("net.",), "text": ("net.",)}  # noqa: RUF012 - of the class, never changed

    def __init__(self, tokenizer: Tokenizer, size: ImageSize, image_size: int) -> None:
        super().__init__()
        self.mean, self.std = size.mean, size.std
        self.backbone = size.backbone
        self.image_size = image_size
        self.tokenizer = tokenizer
        self.learner: Any = None
        self.total = 0
        self.net: Any = None
        self.stride = 1
        self.weights_hash = weights_hash(self)  # of nothing: no weight is frozen

    def equip(self, net: nn.Module, stride: int) -> None:
        """Add the network, newly drawn, all of it to be trained; sides of its input are multiples of `stride`."""
        self.net, self.stride = net, stride

    def image_states(self, pixel_values: Tensor) -> Tensor:
        """Return logits (B, 1, S, S) of normalised images, float (B, 3, S, S); their mean colour pads what is odd."""
        missing = -self.image_size % self.stride
        before = missing // 2
        padded = F.pad(pixel_values, (before, missing - before) * 2) if missing else pixel_values
        logits = self.net(padded)
        whole = logits[0] if isinstance(logits, list) else logits
        return whole[:, :, before : before + self.image_size, before : before + self.image_size]

    def image_embedding(self, image_states: Tensor, *text_embedding: Tensor) -> Tensor:
        """Return the logits as they are."""
        return image_states

    def text_states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return (B, 1) of ones: there is a sentence, and that is all that is known of it."""
        return attention_mask[:, :1].to(torch.float32)

    def text_embedding(self, text_states: Tensor) -> Tensor:
        """Return the ones as they are."""
        return text_states

    def decode(self, image_embedding: Tensor, text_embedding: Tensor) -> Tensor:
        """Return logits (B, 1, S, S), whatever was asked."""
        return image_embedding * text_embedding[:, :, None, None]


def load_picture_model(size: str, weights: str | None = None, image_size: int | None = None) -> PictureModel:
    """Return a model of `size` without its network; UserError for `weights`, of which there are none."""
    if weights not in (None, "random"):
        raise UserError(f"an image-only network starts from random weights, so {weights} is not read: leave it out")
    geometry = IMAGE_SIZES[size]
    if image_size is not None and image_size < 1:
        raise UserError(f"image_size {image_size} is not a size: expected pixels, 1 or more")
    return PictureModel(Tokenizer.load(TINY / "tokenizer.json"), geometry, image_size or geometry.image_size)
