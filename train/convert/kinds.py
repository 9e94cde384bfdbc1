"""The foreign checkpoints that can be converted: how each is known, renamed and checked, and what is written beside."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPModel, CLIPSegForImageSegmentation, SamModel

from ...deploy.errors import UserError
from ..models import sizes as clipseg
from ..models.backbone import small_tokenizer
from ..models.cris.cris import Cris
from ..models.cris.sizes import CRIS_SIZES
from ..models.cris.weights import OWN
from ..models.sam.sizes import sam_config
from ..models.san import sizes as san
from .openai import NUMBERS, clip_names, clipseg_names
from .sam import sam_names

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Kind:
    """A family of checkpoints.

    Attributes:
        name: what it is, in words.
        mark: a tensor that every such checkpoint has and no other.
        rename: from its names to ours.
        sizes: the sizes that can be expected, the published one first.
        expected: for a size, the tensors that must come, on `meta`.
        config: for a size, what config.json says.
        optional: how names begin that may be absent.
        vocabulary: for a size, the words that the tokenizer must know; None where it hears none.
    """

    name: str
    mark: str
    rename: Callable[[Mapping[str, Tensor]], Tensors]
    sizes: tuple[str, ...]
    expected: Callable[[str], Tensors]
    config: Callable[[str], dict[str, Any]]
    optional: tuple[str, ...] = ()
    vocabulary: Callable[[str], int] | None = None


def kind_of(tensors: Mapping[str, Tensor], source: str) -> Kind:
    """Return the kind of a checkpoint; UserError names the known ones."""
    for kind in KINDS:
        if kind.mark in tensors:
            return kind
    first = ", ".join(sorted(tensors)[:3])
    raise UserError(
        f"{source} begins with {first}, which is none of {', '.join(dict.fromkeys(kind.name for kind in KINDS))}"
    )


def expected_of(kind: Kind, size: str) -> Tensors:
    """Return what a checkpoint of a kind and size must hold, on `meta`; UserError for an unknown size."""
    if size not in kind.sizes:
        raise UserError(f"{kind.name} comes in no size {size!r}; known: {', '.join(kind.sizes)}")
    with torch.device("meta"):
        return kind.expected(size)


def _cris(size: str) -> Tensors:
    geometry = CRIS_SIZES[size]
    return Cris(geometry, small_tokenizer(geometry.vocabulary), geometry.image_size).state_dict()


def _cris_names(tensors: Mapping[str, Tensor]) -> Tensors:
    named = {
        f"clip.{name.removeprefix('backbone.')}" if name.startswith("backbone.") else name: tensor
        for name, tensor in tensors.items()
    }
    named.pop("clip.logit_scale", None)  # the contrastive temperature never reaches a mask
    return named


def _rn50_names(tensors: Mapping[str, Tensor]) -> Tensors:
    left_out = (*NUMBERS, "logit_scale")
    return {f"clip.{name}": tensor for name, tensor in tensors.items() if name not in left_out}


def _without_positions(tensors: Mapping[str, Tensor]) -> Tensors:
    """Leave out the counted positions that transformers used to save."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(".position_ids")}


def _clipseg(size: str) -> Tensors:
    return CLIPSegForImageSegmentation(clipseg.config_of(size)).state_dict()


def _clip(size: str) -> Tensors:
    return CLIPModel(san.config_of(size)).state_dict()


def _sam(size: str) -> Tensors:
    return SamModel(sam_config(size)).state_dict()


def _cris_config(holds: str) -> Callable[[str], dict[str, Any]]:
    return lambda size: {"model_type": "cris", "size": size, "holds": holds}


def _cris_words(size: str) -> int:
    return CRIS_SIZES[size].vocabulary


def _clipseg_words(size: str) -> int:
    text: Any = clipseg.config_of(size).text_config
    return text.vocab_size


def _clip_words(size: str) -> int:
    text: Any = san.config_of(size).text_config
    return text.vocab_size


_CRIS: dict[str, Any] = {"sizes": ("base", "tiny", "nano"), "expected": _cris, "vocabulary": _cris_words}
_CLIPSEG: dict[str, Any] = {
    "sizes": ("base", "rd64", "nano"),
    "expected": _clipseg,
    "config": lambda size: clipseg.config_of(size).to_dict(),
    "vocabulary": _clipseg_words,
}
_SAM: dict[str, Any] = {
    "sizes": ("base", "vit-l", "vit-h", "tiny", "nano"),
    "expected": _sam,
    "config": lambda size: sam_config(size).to_dict(),
}

KINDS: Sequence[Kind] = (
    Kind("CRIS", "proj.txt.weight", _cris_names, config=_cris_config("cris"), **_CRIS),
    Kind("CLIP RN50", "visual.attnpool.c_proj.weight", _rn50_names, config=_cris_config("clip"), optional=OWN, **_CRIS),
    Kind("SAM", "image_encoder.pos_embed", sam_names, **_SAM),
    Kind("SAM", "vision_encoder.pos_embed", _without_positions, **_SAM),
    Kind("CLIPSeg", "film_mul.weight", clipseg_names, **_CLIPSEG),
    Kind("CLIPSeg", "decoder.film_mul.weight", _without_positions, **_CLIPSEG),
    Kind(
        "CLIP ViT-B/16",
        "visual.class_embedding",
        clip_names,
        ("base", "nano"),
        _clip,
        lambda size: san.config_of(size).to_dict(),
        vocabulary=_clip_words,
    ),
)
