"""Bicubic resizing as two matrix products: engines such as TensorRT have no cubic resize, and both are linear maps."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate


class Cubic(nn.Module):
    """Resize square maps from side `before` to side `after`, with corner pixels on corner pixels, as torch does."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        one = torch.eye(before, dtype=torch.float64)[None, None]
        # the width stays, so what each row becomes is seen alone
        rows = interpolate(one, (after, before), mode="bicubic", align_corners=True)[0, 0]
        self.register_buffer("rows", rows.to(torch.get_default_dtype()), persistent=False)
        self.rows: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, after, after) from (B, C, before, before)."""
        return self.rows @ x @ self.rows.T
