"""What every backbone is to the rooms around it: a model in five stages, its sizes, and how it is loaded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from ...deploy.errors import UserError
from ...deploy.words import Tokenizer

States = Tensor | tuple[Tensor, ...]


class Promptable(nn.Module):
    """A promptable segmenter in five stages; every tensor they exchange is batch first.

    The states can be computed once and kept where nothing in them trains; the embeddings are what a bundle's parts
    exchange. Shapes below use B batch, S `image_size`, L text length.

    Attributes:
        image_outputs: names in a bundle of the tensors that `image_embedding` returns.
        text_outputs: names in a bundle of the tensors that `text_embedding` returns.
        prefixes: for "image" and "text", how the names of the parameters begin that lie in that stage's states.
        text_depends_on_image: `text_states` takes what `image_context` returns as its third argument.
        image_depends_on_text: `image_embedding` takes the text's embedding as its second argument, and the decoder
            reads the image's alone.
        needs_words: an empty sentence says nothing to it, and is refused.
        variant: what its states depend on besides weights, image size, and image or sentence.
        idle: how the names begin of parameters that are counted and saved, but never get a gradient.
        image_size: side of the square input in pixels.
        mean: what pixels of 0 to 1 are normalised by, each channel.
        std: see `mean`.
        tokenizer: from sentences to ids.
        backbone: where the frozen weights came from.
        weights_hash: SHA-256 of the frozen weights.
        total: all parameters of the model as published, whatever was dropped here.
        learner: a prompt learner, or None.
    """

    image_outputs: tuple[str, ...] = ("image_embedding",)
    text_outputs: tuple[str, ...] = ("text_embedding",)
    prefixes: Mapping[str, tuple[str, ...]]
    text_depends_on_image: bool = False
    image_depends_on_text: bool = False
    needs_words: bool = False
    variant: str = ""
    idle: tuple[str, ...] = ()
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    tokenizer: Tokenizer
    backbone: str
    weights_hash: str
    total: int
    learner: Any

    def image_states(self, pixel_values: Tensor) -> Any:
        """Encode normalised images, float (B, 3, S, S)."""
        raise NotImplementedError

    def image_context(self, image_states: Any) -> Tensor:
        """Return what the text needs to know of the image, (B, W); only where the text depends on it."""
        raise NotImplementedError

    def text_states(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        """Encode sentences, int64 (B, L) each; a third argument is what `image_context` returns, where it does."""
        raise NotImplementedError

    def image_embedding(self, image_states: Any, *text_embedding: Any) -> States:
        """Turn the image's states into what the decoder reads of it; with the text's embedding where that counts."""
        raise NotImplementedError

    def text_embedding(self, text_states: Any) -> States:
        """Turn the sentence's states into what the decoder reads of it."""
        raise NotImplementedError

    def decode(self, image_embedding: Any, text_embedding: Any) -> Tensor:
        """Return logits (B, 1, S, S)."""
        raise NotImplementedError

    def drop_unread(self) -> None:
        """Let go of what no part reads; called once, when a method's parts are on."""

    def forward(self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits (B, 1, S, S) for images (B, 3, S, S) and their sentences (B, L)."""
        image = self.image_states(pixel_values)
        context = (self.image_context(image),) if self.text_depends_on_image else ()
        return self.answer(image, self.text_states(input_ids, attention_mask, *context))

    def answer(self, image_states: Any, text_states: Any) -> Tensor:
        """Return logits (B, 1, S, S) for the states of images and of their sentences."""
        text = self.text_embedding(text_states)
        heard = (text,) if self.image_depends_on_text else ()
        return self.decode(self.image_embedding(image_states, *heard), text)


class Geometry(Protocol):
    """What a size of any backbone has."""

    @property
    def backbone(self) -> str:
        """Where its weights come from by default."""
        ...

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels."""
        ...


@dataclass(frozen=True)
class Backbone:
    """A family of frozen models.

    Attributes:
        sizes: every size by name, those for tests too.
        public: the sizes that are listed.
        load: from size name, weights (None for the size's own, "random", or a folder) and image size to a model.
    """

    sizes: Mapping[str, Geometry]
    public: tuple[str, ...]
    load: Callable[[str, str | None, int | None], Promptable]

    def size(self, name: str) -> Any:
        """Return the size called `name`; UserError names the known ones."""
        if name not in self.sizes:
            raise UserError(f"no size {name!r}; known: {', '.join(self.sizes)}")
        return self.sizes[name]
