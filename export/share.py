"""What adapters contribute, as a part of its own: the norm of each correction over that of its input, token by token.

For a page that shows it (`vlseg demo`); the parts that answer stay as they are.
"""

import onnx
import torch
from torch import Tensor, nn

from ..deploy.errors import UserError
from ..train.models.adapters import Bottleneck
from ..train.models.promptable import Promptable
from .graph import Source, to_onnx
from .prepare import prepare

FILE, OUTPUT = "adapter_share.onnx", "adapter_share"


class Shares(nn.Module):
    """An image part that gives, instead of its embedding, |adapter(x) - x| / |x| of every adapter and token."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part
        self._found: list[Tensor] = []
        for module in part.modules():
            if isinstance(module, Bottleneck):
                module.register_forward_hook(self._note)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return (B, A, N) for A adapters and N tokens, the class token first, from images (B, 3, S, S)."""
        self._found.clear()
        self.part(pixel_values)
        # some adapters work on rows, (B N, D), the others on (B, N, D)
        return torch.stack([share.reshape(pixel_values.shape[0], -1) for share in self._found], dim=1)

    def _note(self, adapter: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        (x,) = given
        self._found.append((out - x).norm(dim=-1) / x.norm(dim=-1))


def graph(model: Promptable) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """Return the part as a graph, `pixel_values` in and `adapter_share` (B, A, N) out, and the shape for two images.

    Raises:
        UserError: the model has no bottleneck adapters on its images.
    """
    shares = Shares(prepare(model).parts["image"])
    images = torch.zeros(2, 3, model.image_size, model.image_size)
    if not any(isinstance(module, Bottleneck) for module in shares.modules()):
        raise UserError("this method has no bottleneck adapters, so there is no share of theirs to tell")
    with torch.no_grad():
        shares.part(images)
        if not shares._found:
            raise UserError("this method's adapters are on the text alone, and the share is of images' tokens")
        shape = tuple(shares(images).shape)
    batch = {0: "batch"}
    source = Source(shares, {"pixel_values": images}, {"pixel_values": batch, OUTPUT: batch}, (OUTPUT,))
    return to_onnx(source), shape
