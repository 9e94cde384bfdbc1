"""CLIP's own vector of an image, and how a prompt learner deep inside the text encoder gets to read it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor, nn

_seen: ContextVar[Tensor] = ContextVar("seen")


class ImageVector(nn.Module):
    """From the deepest extracted activation to CLIP's vector of the image: the rest of the image encoder.

    That is what CoCoOp conditions words on in TuneVLSeg: the class token behind the last layer, through the pooling's
    LayerNorm and the projection into the space that CLIP compares sentences in, as `get_image_features` returns it.
    None of it ever reaches a mask otherwise: layers 10 and 11 at the published sizes. Of the embedded small model the
    one such layer and the projection are as they were drawn, since it learned from masks alone.
    """

    def __init__(self, library: Any) -> None:
        """Take what lies behind the deepest extracted layer of a `CLIPSegForImageSegmentation`."""
        super().__init__()
        vision = library.clip.vision_model
        self.layers = nn.ModuleList(vision.encoder.layers[max(library.config.extract_layers) + 1 :])
        self.norm: nn.Module = vision.post_layernorm
        self.projection: nn.Module = library.clip.visual_projection

    def forward(self, states: Tensor) -> Tensor:
        """Return (B, P) from the deepest extracted activation (B, N, D)."""
        for layer in self.layers:
            states = layer(states, attention_mask=None)
        return self.projection(self.norm(states[:, 0]))


@contextmanager
def seeing(context: Tensor) -> Iterator[None]:
    """Let `seen` return `context`, (B, P), inside the body; each thread and task has its own."""
    token = _seen.set(context)
    try:
        yield
    finally:
        _seen.reset(token)


def seen() -> Tensor:
    """Return the vectors (B, P) of the images whose sentences are being encoded."""
    return _seen.get()
