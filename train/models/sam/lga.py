"""LGA: language-guided adapters of SAM. Options, and where the fusion modules sit.

The paper grafts a full module on the inputs of layers 1, 5 and 9 of 12 and one without its text half on the output of
the last, and trains them and the mask decoder. `released` names what its code does otherwise (docs/fidelity.md).
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

import torch

from ....deploy.errors import UserError
from ..backbone import weights_hash
from ..grafts import freeze
from .fusion import Extractor, Fusion, Injector
from .reader import Reader
from .report import Report, Tokens
from .sam import Sam
from .sizes import SamSize
from .weights import load_bert

MOST = 5


@dataclass(frozen=True)
class LgaOptions:
    """Options of LGA; None means what follows from the size, as published."""

    fidelity: Literal["paper", "released"] = "paper"
    """released: pixels of 0 to 1 are not normalised, as in the published code (docs/fidelity.md)."""
    n_ffm: int = 4
    """Fusion modules, 0 to 5; the last sits on the encoder's output; 0 trains the decoder alone (MedSAM)."""
    places: str | None = None
    """Layers whose inputs carry the others, such as 0,4,8; None: evenly, from the first on."""
    text: Literal["report", "optional", "none"] = "report"
    """report: needs one; optional: a learned query where it is empty; none: the learned query alone."""
    text_tokens: Tokens = "mean"
    """mean: one averaged token, as published; all: every word, with a padding mask."""
    text_limit: int = 32
    """Words that count with text_tokens = all."""
    text_drop: float = 0.1
    """Share of the reports that training leaves out with text = optional, so that the query learns."""
    inner: int | None = None
    """Inner width of both attentions; None: an eighth of the encoder's."""
    ratio: float = 0.25
    """Hidden width of the MLPs, as a share of the encoder's."""
    heads: int = 1
    """Attention heads."""
    text_cross: bool = True
    """Text asks the image."""
    text_mlp: bool = True
    """The MLP of the text half (table 3)."""
    vision_mlp: bool = True
    """The MLP of the vision half (table 3)."""
    gate_mlp: bool = False
    """The gate is on the vision half's MLP too: the module starts as the identity, which is not published."""
    zero_mlp: bool = False
    """The vision half's MLP starts at zero, which is not published."""
    checkpointing: bool = False
    """Compute activations of the encoder again in the backward pass: less memory, more time."""

    def __post_init__(self) -> None:
        """Refuse values that no LGA can have; UserError names the option, the value and the range."""
        _one_of("fidelity", self.fidelity, "paper", "released")
        _one_of("text", self.text, "report", "optional", "none")
        _one_of("text_tokens", self.text_tokens, "mean", "all")
        if type(self.n_ffm) is not int or not 0 <= self.n_ffm <= MOST:
            raise UserError(f"n_ffm = {self.n_ffm!r} is out of range: expected a whole number from 0 to {MOST}")
        if type(self.text_limit) is not int or not 1 <= self.text_limit <= 75:
            raise UserError(f"text_limit = {self.text_limit!r} is out of range: expected 1 to 75 words")
        if not 0 <= self.text_drop < 1:
            raise UserError(f"text_drop = {self.text_drop!r} is out of range: expected 0 to below 1")
        if not 0 < self.ratio <= 4:
            raise UserError(f"ratio = {self.ratio!r} is out of range: expected above 0, at most 4")


def lga(model: Sam, size: SamSize, options: LgaOptions) -> None:
    """Put the fusion modules on `model`, and open them and the mask decoder.

    At the published size 0 to 5 modules are 4,058,340, 4,655,556, 5,849,220, 7,042,884, 8,236,548 and 9,430,212
    parameters to train (table 4).
    """
    model.library.mask_decoder.requires_grad_(True)
    model.checkpointing = options.checkpointing
    if options.fidelity == "released":
        model.mean, model.std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if options.n_ffm == 0:
        return
    _listen(model, size, options)
    for place in places_of(options, model.depth):
        model.fusions[str(place)] = _fusion(size.width, options, full=place != model.depth)


def decoder(model: Sam, size: SamSize, options: object) -> None:
    """Open the mask decoder alone: MedSAM, and LGA with no module."""
    model.library.mask_decoder.requires_grad_(True)


def places_of(options: LgaOptions, depth: int) -> list[int]:
    """Return the layers before which modules sit, `depth` being behind the last.

    The paper gives 0, 4, 8 for four modules and twelve layers; others are spread in the same way.
    """
    full = options.n_ffm - 1
    spread = [round(i * depth / full) for i in range(full)]
    places = spread if options.places is None else _numbers(options.places)
    if len(places) != full or len(set(places)) != full or not all(0 <= place < depth for place in places):
        raise UserError(
            f"places {', '.join(map(str, places)) or 'none'} do not fit n_ffm = {options.n_ffm}: expected {full} "
            f"different layers from 0 to {depth - 1}, for the last module sits behind them all"
        )
    return [*sorted(places), depth]


def _numbers(text: str) -> list[int]:
    try:
        return [int(one) for one in text.split(",") if one.strip()]
    except ValueError as error:
        raise UserError(f"places = {text!r} is no list of layers: expected such as 0,4,8") from error


def _listen(model: Sam, size: SamSize, options: LgaOptions) -> None:
    """Give the model its reader, frozen and always the same, and what turns words into tokens."""
    reader = None
    if options.text != "none":
        with torch.random.fork_rng():
            torch.manual_seed(0)  # random weights are one fixed draw, whatever the seed of the run
            bert, model.tokenizer = load_bert(size, model.backbone)
        reader = Reader(bert, model.tokenizer)
        freeze(reader)
        if model.weights_hash:
            model.weights_hash = hashlib.sha256(f"{model.weights_hash}/{weights_hash(bert)}".encode()).hexdigest()
    learned = options.text != "report"
    rest = {"tokens": options.text_tokens, "limit": options.text_limit, "learned": learned, "drop": options.text_drop}
    model.report = Report(reader, size.width, **rest)
    model.image_depends_on_text = reader is not None
    model.needs_words = options.text == "report"
    if reader is not None:
        model.text_outputs = ("text_tokens",) if options.text_tokens == "mean" else ("text_tokens", "text_mask")


def _fusion(width: int, options: LgaOptions, full: bool) -> Fusion:
    inner = width // 8 if options.inner is None else options.inner
    rank, heads = round(options.ratio * width), options.heads
    if inner < 1 or heads < 1 or inner % heads:
        raise UserError(f"inner = {inner} is not a multiple of heads = {heads}: choose others")
    half = full and (options.text_cross or options.text_mlp)
    extractor = Extractor(width, inner, rank, heads, cross=options.text_cross, mlp=options.text_mlp) if half else None
    switches = {"mlp": options.vision_mlp, "gate_mlp": options.gate_mlp, "zero_mlp": options.zero_mlp}
    one_token = options.text_tokens == "mean" or options.text == "none"
    return Fusion(extractor, Injector(width, inner, rank, heads, **switches), one_token)


def _one_of(name: str, value: object, *known: str) -> None:
    if value not in known:
        raise UserError(f"{name} = {value!r} is not known: expected {', '.join(known[:-1])} or {known[-1]}")
