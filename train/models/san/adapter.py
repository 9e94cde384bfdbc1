"""The method `san/adapter`: VLSM-Adapter's baseline (arXiv 2405.06196) that trains a side adapter on a frozen CLIP."""

from dataclasses import dataclass
from typing import Literal

from ....deploy.errors import UserError
from .san import San
from .sizes import SanSize


@dataclass(frozen=True)
class SanOptions:
    """Options of the side adapter."""

    fidelity: Literal["paper", "released"] = "paper"
    """released: repeat the published code's defects (docs/fidelity.md)."""
    positions: bool = True
    """Train CLIP's positions too, as published; without it CLIP's states of an image are computed once."""

    def __post_init__(self) -> None:
        """Refuse what no side adapter can be; UserError says what can."""
        if self.fidelity not in ("paper", "released"):
            raise UserError(f"fidelity = {self.fidelity!r} is not known: expected paper or released")
        if self.fidelity == "released" and not self.positions:
            raise UserError("the released code counts CLIP's positions among what trains: leave out positions = false")


def adapter(model: San, size: SanSize, options: SanOptions) -> None:
    """Add the side adapter; it trains, and with it CLIP's positions.

    At the published size that is 8,370,354 parameters, as the table of the paper has it (8.4 M): adapter 8,219,058 and
    positions 151,296. The released variant has as many, and 7,115,968 of them get a gradient: its positions and the
    biases of the attention (MLP and scale) stand behind a stopped gradient, and its last fusion is never reached.
    """
    model.equip(size, released=options.fidelity == "released")
    if options.positions:
        model.vision.embeddings.position_embedding.requires_grad_(True)
