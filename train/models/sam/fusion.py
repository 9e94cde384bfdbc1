"""LGA's fusion module (language-guided adapters of SAM, equations 2 to 5): text asks the image, the image hears text.

The arithmetic is in `kernels/`; these classes hold the parameters. Shapes below use B batch, G grid, K text tokens, D
width of both streams.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ....kernels import ops


class CrossAttention(nn.Module):
    """The four linears of an attention, all with bias, from width D to an inner width and back."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, inner) for _ in range(3))
        self.out = nn.Linear(inner, width)

    @property
    def tensors(self) -> ops.Attention:
        """The weights, as the operators take them."""
        pairs = ((one.weight, one.bias) for one in (self.query, self.key, self.value, self.out))
        return ops.Attention(*(tensor for pair in pairs for tensor in pair))


class Mlp(nn.Module):
    """x + scale * up(relu(down(norm(x)))), equations 3 and 5."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.down, self.up = nn.Linear(width, rank), nn.Linear(rank, width)

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """Return (..., D) from (..., D); `scale` (D,) or none."""
        weights = (self.down.weight, self.down.bias, self.up.weight, self.up.bias)
        impl = ops.preferred(x.device)
        return ops.bottleneck(x, *weights, outer="identity", norm=norm_of(self.norm), scale=scale, impl=impl)


class Extractor(nn.Module):
    """The text half: text tokens pool the image, then pass an MLP. Either may be left out."""

    def __init__(self, width: int, inner: int, rank: int, heads: int, *, cross: bool = True, mlp: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.attention: Any = CrossAttention(width, inner) if cross else None
        self.text_norm: Any = nn.LayerNorm(width) if cross else None
        self.vision_norm: Any = nn.LayerNorm(width) if cross else None
        self.mlp: Any = Mlp(width, rank) if mlp else None

    def forward(self, text: Tensor, vision: Tensor) -> Tensor:
        """Return (B, K, D) from text (B, K, D) and vision (B, G * G, D)."""
        if self.attention is not None:
            norms = norm_of(self.text_norm), norm_of(self.vision_norm)
            impl = ops.preferred(vision.device)
            text = ops.text_pooling(text, vision, self.attention.tensors, *norms, heads=self.heads, impl=impl)
        return text if self.mlp is None else self.mlp(text)


class Injector(nn.Module):
    """The vision half: a gated attention to the text, then an MLP, which may be left out.

    The gate starts at zero and gates the attention alone, as published; with `gate_mlp` it gates the MLP as well, and
    with `zero_mlp` the MLP's last linear starts at zero: either way the module starts as the identity.
    """

    def __init__(
        self, width: int, inner: int, rank: int, heads: int, *, mlp: bool, gate_mlp: bool, zero_mlp: bool
    ) -> None:
        super().__init__()
        self.heads, self.gate_mlp, self.zero_mlp = heads, gate_mlp, zero_mlp
        self.attention = CrossAttention(width, inner)
        self.vision_norm, self.text_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.gamma = nn.Parameter(torch.zeros(width))
        self.mlp: Any = Mlp(width, rank) if mlp else None

    def forward(self, vision: Tensor, text: Tensor, mask: Tensor | None) -> Tensor:
        """Return (B, G * G, D) from vision (B, G * G, D) and text (B, K, D); `mask` bool (B, K), True where real."""
        norms = norm_of(self.vision_norm), norm_of(self.text_norm)
        impl = ops.preferred(vision.device)
        vision = ops.gated_cross_attention(
            vision, text, self.attention.tensors, *norms, self.gamma, heads=self.heads, mask=mask, impl=impl
        )
        return vision if self.mlp is None else self.mlp(vision, self.gamma if self.gate_mlp else None)


class Fusion(nn.Module):
    """One place where text and image meet: the text half first, then the vision half hears the new text.

    Attributes:
        idle: how the names begin of its parameters that get no gradient: with one text token the softmax over one key
            is 1, so the vision half is blind to the position, and what made its queries and keys does not count.
    """

    def __init__(self, extractor: Extractor | None, injector: Injector, one_token: bool) -> None:
        super().__init__()
        self.extractor: Any = extractor
        self.injector = injector
        blind = ("attention.query.", "attention.key.", "vision_norm.")
        self.idle = tuple(f"injector.{name}" for name in blind) if one_token else ()
        self.apply(_draw)
        if injector.zero_mlp and injector.mlp is not None:
            nn.init.zeros_(injector.mlp.up.weight)

    def forward(self, vision: Tensor, text: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return vision (B, G, G, D) and text (B, K, D), both new."""
        rows = vision.flatten(1, 2)
        text = text if self.extractor is None else self.extractor(text, rows)
        return self.injector(rows, text, mask).reshape(vision.shape), text


def norm_of(norm: nn.LayerNorm) -> ops.Norm:
    """Return a layer norm as the operators take it."""
    return ops.Norm(norm.weight, norm.bias, norm.eps)


def _draw(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
