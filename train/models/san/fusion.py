"""How what CLIP sees enters the side adapter."""

from torch import Tensor, nn


class Fusion(nn.Module):
    """Add a CLIP state to the adapter's patches: LayerNorm, a linear for each position, then a larger grid."""

    def __init__(self, clip_width: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(clip_width, eps=1e-6)
        self.project = nn.Linear(clip_width, width)
        nn.init.kaiming_uniform_(self.project.weight, a=1)
        nn.init.zeros_(self.project.bias)

    def forward(self, state: Tensor, grid: int) -> Tensor:
        """Return (B, grid * grid, width) from a CLIP state (B, 1 + n, clip_width) whose first row is the class token.

        n is a square number; its grid is resized bilinearly.
        """
        small = round((state.shape[1] - 1) ** 0.5)
        picture = self.project(self.norm(state[:, 1:])).transpose(1, 2).unflatten(2, (small, small))
        large = nn.functional.interpolate(picture, size=(grid, grid), mode="bilinear", align_corners=False)
        return large.flatten(2).transpose(1, 2)
