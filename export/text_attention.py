"""Where the words of a report look, as a part of its own: LGA's text-to-image attention, token by token.

For a page that shows it (`vlseg demo`); the parts that answer never make these weights (equation 2 is computed with
absorbed keys), and stay as they are.
"""

import onnx
import torch
from torch import Tensor, nn

from ..deploy.errors import UserError
from ..train.models.promptable import Promptable
from ..train.models.sam.fusion import Extractor
from .graph import Source, to_onnx
from .parts import sources_of
from .prepare import prepare

FILE, OUTPUT = "text_attention.onnx", "text_attention"


class Attended(nn.Module):
    """An image part that gives, instead of its embedding, softmax(q k / sqrt(d)) of every text half, heads averaged."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part
        self.asking = [one for one in part.modules() if isinstance(one, Extractor) and one.attention is not None]
        self._found: list[Tensor] = []
        for extractor in self.asking:
            extractor.register_forward_pre_hook(self._note)

    def forward(self, *given: Tensor) -> Tensor:
        """Return (B, M, K, N) for M modules, K text tokens and N image tokens, from what the image part takes."""
        self._found.clear()
        self.part(*given)
        return torch.stack(self._found, dim=1)

    def _note(self, extractor: nn.Module, given: tuple[Tensor, ...]) -> None:
        assert isinstance(extractor, Extractor)
        text, vision = given
        query = extractor.attention.query(extractor.text_norm(text)).unflatten(-1, (extractor.heads, -1))
        key = extractor.attention.key(extractor.vision_norm(vision)).unflatten(-1, (extractor.heads, -1))
        scores = torch.einsum("bkhd,bnhd->bhkn", query, key) * query.shape[-1] ** -0.5
        self._found.append(torch.softmax(scores, dim=-1).mean(dim=1))


def graph(model: Promptable) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """Return the part as a graph, inputs of the image part in and `text_attention` out, and the shape for two images.

    Raises:
        UserError: no words of the model ask its image.
    """
    image = sources_of(prepare(model))["image"]
    attended = Attended(image.module)
    if not attended.asking:
        raise UserError("no words of this model ask the image, so there is no attention of theirs to tell")
    with torch.no_grad():
        shape = tuple(attended(*image.inputs.values()).shape)
    axes = {name: image.axes[name] for name in image.inputs} | {OUTPUT: {0: "batch"}}
    return to_onnx(Source(attended, image.inputs, axes, (OUTPUT,))), shape
