"""LoRA (arXiv 2106.09685) on SAM's image encoder, beside a trained mask decoder; the layers are peft's."""

from dataclasses import dataclass

from ....deploy.errors import UserError
from ..lora import check_factors, inject
from .sam import Sam
from .sizes import SamSize

TARGETS = {"qkv": ("attn.qkv",), "out": ("attn.proj",), "mlp": ("mlp.lin1", "mlp.lin2")}


@dataclass(frozen=True)
class SamLoraOptions:
    """Options of LoRA on SAM; None means what follows from the others."""

    targets: str = "qkv"
    """Which linears it is put beside, a list of qkv (SAM has one linear for the three), out and mlp, with commas."""
    rank: int = 4
    """Inner width of the two factors."""
    alpha: float | None = None
    """The product of the factors counts alpha / rank times; None: twice the rank."""
    dropout: float = 0.0
    """Dropout on what the factors read, while they train."""
    decoder: bool = True
    """The mask decoder trains too: without it SAM, which is given no point and no box, answers as it was drawn."""
    checkpointing: bool = False
    """Compute activations of the encoder again in the backward pass: less memory, more time."""

    def __post_init__(self) -> None:
        """Refuse values that no LoRA can have; UserError names the option, the value and the range."""
        if not (isinstance(self.targets, str) and set(self.names) <= set(TARGETS)):
            raise UserError(f"targets = {self.targets!r} is no list of {', '.join(TARGETS)}: expected such as qkv,mlp")
        check_factors(self.rank, self.alpha, self.dropout)

    @property
    def names(self) -> list[str]:
        """The targets, one by one."""
        return [name.strip() for name in self.targets.split(",")]


def lora(model: Sam, size: SamSize, options: SamLoraOptions) -> None:
    """Put two factors beside each chosen linear of every layer; the second starts at zero, so nothing changes yet."""
    linears = "|".join(linear.replace(".", r"\.") for name in options.names for linear in TARGETS[name])
    inject(model, rf"library\.vision_encoder\.layers\.\d+\.({linears})", options)
    model.library.mask_decoder.requires_grad_(options.decoder)
    model.checkpointing = options.checkpointing
