"""LoRA (Hu et al., arXiv 2106.09685) on the linear layers of CLIPSeg's two encoders; the layers are peft's."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from ...deploy.errors import UserError
from .clipseg import Clipseg
from .sizes import Size

TARGETS = {
    "q": (r"self_attn\.q_proj",),
    "k": (r"self_attn\.k_proj",),
    "v": (r"self_attn\.v_proj",),
    "out": (r"self_attn\.out_proj",),
    "mlp": (r"mlp\.fc1", r"mlp\.fc2"),
}
TOWERS = {"image": ("vision_model",), "text": ("text_model",), "both": ("vision_model", "text_model")}


@dataclass(frozen=True)
class LoraOptions:
    """Options of LoRA; None means what follows from the others."""

    targets: str = "q,v"
    """Which linears it is put beside, a list of q, k, v, out (of the attention) and mlp, with commas between."""
    towers: Literal["both", "image", "text"] = "both"
    """The encoders it is put into."""
    rank: int = 8
    """Inner width of the two factors."""
    alpha: float | None = None
    """The product of the factors counts alpha / rank times; None: twice the rank."""
    dropout: float = 0.0
    """Dropout on what the factors read, while they train."""

    def __post_init__(self) -> None:
        """Refuse values that no LoRA can have; UserError names the option, the value and the range."""
        if not (isinstance(self.targets, str) and set(self.names) <= set(TARGETS)):
            raise UserError(f"targets = {self.targets!r} is no list of {', '.join(TARGETS)}: expected such as q,v")
        if self.towers not in TOWERS:
            raise UserError(f"towers = {self.towers!r} is not known: expected one of {', '.join(TOWERS)}")
        check_factors(self.rank, self.alpha, self.dropout)

    @property
    def names(self) -> list[str]:
        """The targets, one by one."""
        return [name.strip() for name in self.targets.split(",")]


def lora(model: Clipseg, size: Size, options: LoraOptions) -> None:
    """Put two factors beside each chosen linear of the encoders; the second starts at zero, so nothing changes yet."""
    towers = "|".join(TOWERS[options.towers])
    linears = "|".join(linear for name in options.names for linear in TARGETS[name])
    inject(model, rf"library\.clip\.({towers})\.encoder\.layers\.\d+\.({linears})", options)


def check_factors(rank: int, alpha: float | None, dropout: float) -> None:
    """Refuse factors that no LoRA can have; UserError names the option, the value and the range."""
    if type(rank) is not int or rank < 1:
        raise UserError(f"rank = {rank!r} is not a count: expected a whole number from 1 on")
    if alpha is not None and not (isinstance(alpha, (int, float)) and alpha > 0):
        raise UserError(f"alpha = {alpha!r} is out of range: expected a number above 0")
    if not (isinstance(dropout, (int, float)) and 0 <= dropout < 1):
        raise UserError(f"dropout = {dropout!r} is out of range: expected 0 to below 1")


def inject(model: nn.Module, where: str, options: Any) -> None:
    """Put factors of `options.rank`, `.alpha` and `.dropout` beside every linear whose path matches `where`."""
    from peft import LoraConfig, inject_adapter_in_model  # takes seconds

    config = LoraConfig(
        r=options.rank,
        lora_alpha=2 * options.rank if options.alpha is None else options.alpha,  # type: ignore[arg-type]
        lora_dropout=options.dropout,
        target_modules=where,
    )
    inject_adapter_in_model(config, model)


def layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield every linear with factors beside it, and its path; told by what it has, to import peft for LoRA alone."""
    for path, module in model.named_modules():
        if hasattr(module, "lora_A"):
            yield path, module


def merge(model: nn.Module) -> list[str]:
    """Add every product of factors to the weight it stands beside, in place; return what was done, a phrase or none."""
    found = list(layers(model))
    for path, layer in found:
        layer.merge(safe_merge=True)
        owner, _, name = path.rpartition(".")
        setattr(model.get_submodule(owner), name, layer.get_base_layer())
    return [f"LoRA into {len(found)} weights"] if found else []
