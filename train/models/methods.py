"""The one place where backbones and tuning methods meet: `clipseg/dense-vl` and its kin."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any, get_args, get_type_hints

import torch

from ...deploy.errors import UserError
from . import tunevlseg, vlsm_adapter
from .backbone import load_clipseg
from .clipseg import Clipseg
from .cris import tuning as cris
from .cris.sizes import CRIS_SIZES, PUBLIC_CRIS_SIZES
from .cris.weights import load_cris
from .grafts import freeze, trained_parameters
from .image import networks
from .image.picture_model import load_picture_model
from .image.sizes import IMAGE_SIZES, PUBLIC_IMAGE_SIZES
from .lora import LoraOptions, lora
from .promptable import Backbone, Promptable
from .sam import lga
from .sam import lora as sam_lora
from .sam.sizes import PUBLIC_SAM_SIZES, SAM_SIZES
from .sam.weights import load_sam
from .san.adapter import SanOptions, adapter
from .san.sizes import PUBLIC_SAN_SIZES, SAN_SIZES
from .san.weights import load_san
from .sizes import PUBLIC_SIZES, SIZES, Size
from .vlsm_adapter import AdapterOptions

VLSM_ADAPTER = "VLSM-Adapter, arXiv 2405.06196"
TUNEVLSEG = "TuneVLSeg, arXiv 2410.05239"
LORA = "LoRA, arXiv 2106.09685"
LGA = "LGA, language-guided adapters of SAM"


@dataclass(frozen=True)
class NoOptions:
    """A method with nothing to choose."""


@dataclass(frozen=True)
class Method:
    """A way to tune a frozen model: `adapt` adds the trained parts, and opens what else trains."""

    paper: str
    adapt: Callable[[Any, Any, Any], None]
    options: type = NoOptions


def _frozen(model: Promptable, size: Any, options: NoOptions) -> None:
    """Train nothing: the yardstick."""


def _decoder(model: Clipseg, size: Size, options: NoOptions) -> None:
    model.library.decoder.requires_grad_(True)


def _decoder_and_upsampler(model: Clipseg, size: Size, options: NoOptions) -> None:
    _decoder(model, size, options)
    tunevlseg.add_upsampler(model)


def _full(model: Promptable, size: Any, options: NoOptions) -> None:
    model.requires_grad_(True)


def _adapters(kind: str) -> dict[str, Method]:
    adapt = getattr(vlsm_adapter, kind)
    return {
        f"clipseg/{kind}-{parts}": Method(VLSM_ADAPTER, partial(_with_parts, adapt, parts), AdapterOptions)
        for parts in ("v", "vl", "vlc")
    }


def _with_parts(adapt: Callable, parts: str, model: Clipseg, size: Size, options: AdapterOptions) -> None:
    adapt(model, size, parts, options)


BACKBONES: dict[str, Backbone] = {
    "clipseg": Backbone(SIZES, PUBLIC_SIZES, load_clipseg),
    "cris": Backbone(CRIS_SIZES, PUBLIC_CRIS_SIZES, load_cris),
    "sam": Backbone(SAM_SIZES, PUBLIC_SAM_SIZES, load_sam),
    "san": Backbone(SAN_SIZES, PUBLIC_SAN_SIZES, load_san),
    "image": Backbone(IMAGE_SIZES, PUBLIC_IMAGE_SIZES, load_picture_model),
}

METHODS: dict[str, Method] = {
    "clipseg/frozen": Method("CLIPSeg, arXiv 2112.10003", _frozen),
    "clipseg/decoder": Method(VLSM_ADAPTER, _decoder),
    "clipseg/full": Method(VLSM_ADAPTER, _full),
    **_adapters("shallow"),
    **_adapters("dense"),
    "clipseg/coop": Method(TUNEVLSEG, tunevlseg.coop, tunevlseg.CoopOptions),
    "clipseg/cocoop": Method(TUNEVLSEG, tunevlseg.cocoop, tunevlseg.CocoopOptions),
    "clipseg/vpt": Method(TUNEVLSEG, tunevlseg.vpt, tunevlseg.PromptOptions),
    "clipseg/maple": Method(TUNEVLSEG, tunevlseg.maple, tunevlseg.MapleOptions),
    "clipseg/shared-attention": Method(TUNEVLSEG, tunevlseg.shared_attention, tunevlseg.AttentionOptions),
    "clipseg/shared-separate": Method(TUNEVLSEG, tunevlseg.shared_separate, tunevlseg.SeparateOptions),
    "clipseg/decoder+upsampler": Method(TUNEVLSEG, _decoder_and_upsampler),
    "clipseg/lora": Method(LORA, lora, LoraOptions),
    "cris/frozen": Method("CRIS, arXiv 2111.15174", _frozen),
    "cris/full": Method(VLSM_ADAPTER, cris.full, cris.FullOptions),
    "cris/coop": Method(TUNEVLSEG, cris.coop, tunevlseg.CoopOptions),
    "cris/cocoop": Method(TUNEVLSEG, cris.cocoop, tunevlseg.CocoopOptions),
    "sam/frozen": Method("SAM, arXiv 2304.02643", _frozen),
    "sam/decoder": Method("MedSAM, arXiv 2304.12306", lga.decoder),
    "sam/lga": Method(LGA, lga.lga, lga.LgaOptions),
    "sam/lora": Method(LORA, sam_lora.lora, sam_lora.SamLoraOptions),
    "san/adapter": Method(VLSM_ADAPTER, adapter, SanOptions),
    "image/unet": Method("U-Net, arXiv 1505.04597", networks.unet),
    "image/unet++": Method("U-Net++, arXiv 1807.10165", networks.unet_plus_plus),
    "image/nnunet": Method("nnU-Net, arXiv 1809.10486", networks.nnunet),
    "image/swin-unetr": Method("Swin UNETR, arXiv 2201.01266", networks.swin_unetr),
}


def method_of(name: str) -> Method:
    """Return the method called `name`; UserError names the known ones."""
    if name not in METHODS:
        raise UserError(f"no method {name!r}; known: {', '.join(METHODS)}")
    return METHODS[name]


def backbone_of(name: str) -> Backbone:
    """Return the backbone that the method called `name` tunes; UserError where there is no such method."""
    method_of(name)
    return BACKBONES[name.partition("/")[0]]


def build_model(
    name: str,
    size: str = "tiny",
    *,
    weights: str | None = None,
    image_size: int | None = None,
    seed: int = 0,
    **options: Any,
) -> Any:
    """Return a frozen backbone with the method's parts on it, in evaluation mode.

    `weights`: None for the size's own (embedded, or by its published name), "random", or a local folder. `seed` decides
    how new parts start. Raises UserError for an unknown method, size or option, or weights that cannot be had.
    """
    method, backbone = method_of(name), backbone_of(name)
    geometry = backbone.size(size)
    chosen = _options(method, name, options)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # random weights are one fixed draw, so that a run finds its backbone again
        model = backbone.load(size, weights, image_size)
        freeze(model)
        bare = _size(model)
        torch.manual_seed(seed)
        method.adapt(model, geometry, chosen)
    model.total += _size(model) - bare
    model.drop_unread()
    return model.eval()


def _size(model: Promptable) -> int:
    return sum(p.numel() for p in model.parameters())


def option_names(name: str) -> list[str]:
    """Return the options that a method takes."""
    return [field.name for field in fields(method_of(name).options)]


def default_options(name: str) -> dict[str, Any]:
    """Return a method's options with their default values."""
    return asdict(method_of(name).options())


def _options(method: Method, name: str, given: dict[str, Any]) -> Any:
    known = option_names(name)
    for key in given:
        if key not in known:
            raise UserError(f"{name} has no option {key!r}; known: {', '.join(known) or 'none'}")
    # the command line reads `none` as no value, which some options spell as a word
    words = {key for key, hint in get_type_hints(method.options).items() if "none" in get_args(hint)}
    return method.options(**{key: "none" if value is None and key in words else value for key, value in given.items()})


def cacheable(model: Promptable) -> dict[str, bool]:
    """Say which states lie wholly below the first trained parameter, so that they can be computed once."""
    trained = trained_parameters(model)
    below = dict(model.prefixes)
    # a learner belongs to the model, yet its rows enter the towers
    for side in model.learner.sides if model.learner else ():
        key = "image" if side == "vision" else side
        below[key] = (*below[key], "learner.")
    return {key: not any(name.startswith(names) for name in trained) for key, names in below.items()}


def count(name: str, size: str) -> dict[str, Any]:
    """One line of `vlseg methods`, nothing allocated: `{name, size, paper, trainable, total, image_size, cached}`.

    `cached` names the encoders ("image", "text") whose states training computes once, as nothing in them trains.
    """
    with torch.device("meta"):
        model = build_model(name, size, weights="random")
    trainable = sum(p.numel() for p in trained_parameters(model).values())
    row = {"name": name, "size": size, "paper": method_of(name).paper}
    row |= {"trainable": trainable, "total": model.total, "image_size": model.image_size}
    return row | {"cached": [name for name, whole in cacheable(model).items() if whole]}
