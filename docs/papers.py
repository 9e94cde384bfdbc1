"""Write docs/papers.md: figures of the papers that need no weights, ours beside them; `--check` only compares.

Ours are computed from the models themselves, built on torch's `meta` device, where nothing is allocated.
"""

import functools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import CLIPSegForImageSegmentation

from vlseg.train.models.grafts import learning_parameters, trained_parameters
from vlseg.train.models.methods import METHODS, TUNEVLSEG, build_model
from vlseg.train.models.sam.lga import LgaOptions, places_of
from vlseg.train.models.sizes import config_of
from vlseg.train.recipe import load_recipe

PAGE = Path(__file__).parent / "papers.md"
HEAD = """# The papers' figures that need no weights

Counts, sizes, shapes and settings that the three papers print, or that their released code has, and ours beside them.
Made by `python docs/papers.py` from the models and recipes themselves, held by `tests/test_papers_docs.py`. Counts in
millions are compared at the digits that are printed. What needs weights and data is `vlseg reproduce`
([reproduce.md](reproduce.md)).
"""
NO_SUCH = "not built"


class Figure(NamedTuple):
    """A figure: what it is, what was published, how ours comes about, and a sentence where they differ.

    `published` is a number, or the text of one in millions, whose digits count ("8.4 M").
    """

    what: str
    published: float | str
    ours: Callable[[], float] | None
    why: str = ""


@functools.cache
def model(method: str, size: str = "base", **options: Any) -> Any:
    """Return a model without storage."""
    with torch.device("meta"):
        return build_model(method, size, weights="random", **options)


def trained(method: str, size: str = "base", **options: Any) -> int:
    """Return how many parameters train."""
    return count(trained_parameters(model(method, size, **options)))


def added(method: str, size: str = "base", **options: Any) -> int:
    """Return the parameters of the whole model, with what the method adds."""
    return model(method, size, **options).total


def idle(**options: Any) -> int:
    """Return how many parameters of LGA train and never get a gradient."""
    lga = model("sam/lga", **options)
    return count(trained_parameters(lga)) - count(learning_parameters(lga))


def count(parameters: dict[str, Any]) -> int:
    """Return how many numbers parameters hold."""
    return sum(parameter.numel() for parameter in parameters.values())


def part(path: str, method: str, **options: Any) -> int:
    """Return how many parameters a sub-module has."""
    return sum(p.numel() for p in model(method, **options).get_submodule(path).parameters())


@functools.cache
def states_of(method: str) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of what the image encoder gives for one image."""
    one = model(method)
    with torch.device("meta"), torch.no_grad():
        states = one.image_states(torch.zeros(1, 3, one.image_size, one.image_size))
        return tuple(tuple(state.shape) for state in (states if isinstance(states, tuple) else (states,)))


def mask_side() -> int:
    """Return the side of CLIPSeg's mask for one image."""
    one = model("clipseg/frozen")
    with torch.device("meta"), torch.no_grad():
        image = one.image_embedding(one.image_states(torch.zeros(1, 3, one.image_size, one.image_size)))
        return one.decode(image, torch.zeros(1, 2, image.shape[-1])).shape[-1]


@functools.cache
def library(refined: bool) -> Any:
    """Return the library's own CLIPSeg, of which ours leaves out what never reaches a mask."""
    with torch.device("meta"):
        return CLIPSegForImageSegmentation(config_of("base" if refined else "rd64"))


def of_library(path: str, refined: bool = True) -> int:
    """Return how many parameters a sub-module of the library's CLIPSeg has."""
    return sum(p.numel() for p in library(refined).get_submodule(path).parameters())


def settings(recipe: str, published: dict[str, float]) -> list[Figure]:
    """Return a figure for each published field of a recipe, ours being what `vlseg train --recipe` sets."""
    name = recipe.partition("/")[2]
    return [
        Figure(f"{name}: {field.replace('_', ' ')}", value, functools.partial(setting, recipe, field))
        for field, value in published.items()
    ]


def setting(recipe: str, field: str) -> float:
    """Return a field of a shipped recipe."""
    return getattr(load_recipe(recipe), field)


def in_lga(name: str, axis: int) -> int:
    """Return one axis of a weight of LGA's first fusion module."""
    return model("sam/lga").fusions["0"].get_parameter(name).shape[axis]


def learners() -> list[str]:
    """Return the methods that learn prompts, the decoder's own not among them."""
    return [name for name, one in METHODS.items() if one.paper == TUNEVLSEG and not name.startswith("clipseg/decoder")]


# what the papers and their configurations say of the training
ADAPTERS: dict[str, float] = {
    "weight_decay": 1e-3, "batch_size": 32, "max_epochs": 200, "min_epochs": 10, "patience": 20, "min_delta": 1e-4,
    "clip_norm": 0.5, "plateau_factor": 0.3, "plateau_patience": 5, "dice_weight": 1.5, "ce_weight": 1.0,
}  # fmt: skip
LEARNERS: dict[str, float] = {
    "lr": 2e-4, "weight_decay": 0, "batch_size": 32, "max_epochs": 20, "min_epochs": 10, "patience": 12,
    "min_delta": 1e-4, "clip_norm": 0, "plateau_factor": 0.2, "plateau_patience": 5, "dice_weight": 1.0,
    "ce_weight": 0.2, "seed": 12345,
}  # fmt: skip
REPORTS: dict[str, float] = {
    "lr": 1e-4, "weight_decay": 1e-3, "batch_size": 2, "max_epochs": 50, "warmup_steps": 1000, "dice_weight": 0.5,
    "ce_weight": 0.5, "seed": 666,
}  # fmt: skip
FIGURES: dict[str, list[Figure]] = {
    "VLSM-Adapter (arXiv 2405.06196)": [
        Figure(
            "parameters of CLIPSeg", "150 M", lambda: added("clipseg/frozen"),
            "150.7 million, which the paper cuts and does not round.",
        ),
        Figure("parameters of CRIS", "147 M", lambda: added("cris/full")),
        Figure("parameters of CRIS, released code", 146_849_122, lambda: added("cris/full")),
        Figure("trained in SAN", "8.4 M", lambda: trained("san/adapter")),
        Figure("trained, SA", "4.2 M", lambda: trained("clipseg/shallow-vlc")),
        Figure("trained, DA", "3 M", lambda: trained("clipseg/dense-vl")),
        Figure(
            "trained in CLIPSeg end-to-end", "150 M", lambda: trained("clipseg/full"),
            "Two image layers, the pooled vector and the contrastive head never reach the mask, and are not counted as "
            "trained. The released code trains the 1,127,009 parameters of the decoder alone under this name.",
        ),
        Figure("SA-V, released code", 2_363_136, lambda: trained("clipseg/shallow-v")),
        Figure("SA-VL, released code", 3_939_072, lambda: trained("clipseg/shallow-vl")),
        Figure("SA-VLC, released code", 4_201_984, lambda: trained("clipseg/shallow-vlc")),
        Figure("DA-V, released code", 1_784_448, lambda: trained("clipseg/dense-v")),
        Figure("DA-VL, released code", 2_974_464, lambda: trained("clipseg/dense-vl")),
        Figure("DA-VLC, released code", 3_237_376, lambda: trained("clipseg/dense-vlc")),
        Figure("whole model with SA-VLC", 154_949_730, lambda: added("clipseg/shallow-vlc")),
        Figure("whole model with DA-VL", 153_722_210, lambda: added("clipseg/dense-vl")),
        Figure("CLIPSeg's decoder", 1_127_009, lambda: trained("clipseg/decoder")),
        Figure(
            "trained in SAN, with a gradient in the released code", 7_115_968, lambda: trained("san/adapter"),
            "As the paper means it all of them get one; with `fidelity = \"released\"` those that get none are silent "
            "here too (`tests/train/models/test_san.py`).",
        ),
        *(
            Figure(f"CLIPSeg's {what}", published, functools.partial(of_library, path))
            for what, path, published in (
                ("image encoder", "clip.vision_model", 85_799_424),
                ("text encoder", "clip.text_model", 63_165_952),
                ("reductions", "decoder.reduces", 147_648),
                ("decoder layers", "decoder.layers", 843_456),
                ("mask head", "decoder.transposed_convolution", 70_241),
            )
        ),
        *(
            Figure(f"CRIS's {what}", published, functools.partial(part, path, "cris/full"))
            for what, path, published in (
                ("image encoder", "clip.visual", 40_416_096),
                ("neck", "neck", 24_142_336),
                ("decoder", "decoder", 12_631_552),
                ("projector", "proj", 5_968_897),
            )
        ),
        Figure("SAN's mask heads", 1_303_554, lambda: part("masks", "san/adapter")),
        Figure("SAN's fusions", 744_384, lambda: part("side.fusions", "san/adapter")),
        *settings("vlsm-adapter/dense-vl", {"lr": 1e-3} | ADAPTERS),
        *settings("vlsm-adapter/shallow-vlc", {"lr": 3e-4}),
        *settings("vlsm-adapter/decoder", {"lr": 1e-3}),
        *settings("vlsm-adapter/cris-full", {"lr": 1e-4}),
        *settings("vlsm-adapter/san", {"lr": 3e-4}),
        Figure("input of CLIPSeg, pixels", 352, lambda: model("clipseg/dense-vl").image_size),
        Figure("input of CRIS, pixels", 416, lambda: model("cris/full").image_size),
        Figure("input of SAN, pixels", 640, lambda: model("san/adapter").image_size),
        Figure("image tokens of CLIPSeg", 22 * 22 + 1, lambda: states_of("clipseg/frozen")[0][2]),
        Figure("activations that the decoder reads", 3, lambda: states_of("clipseg/frozen")[0][1]),
        Figure("mask of CLIPSeg, pixels", 352, mask_side),
        *(
            Figure(f"side of CRIS's C{i + 3}", side, functools.partial(lambda i: states_of("cris/full")[i][-1], i))
            for i, side in enumerate((52, 26, 13))
        ),
        Figure("queries of SAN", 100, lambda: model("san/adapter").side.queries.shape[0]),
        Figure("image tokens of SAN", 40 * 40, lambda: model("san/adapter").side.positions.shape[0]),
        Figure("tokens of a sentence", 77, lambda: model("clipseg/dense-vl").tokenizer.context),
    ],
    "TuneVLSeg (arXiv 2410.05239)": [
        Figure("combinations of learner and model", 8, lambda: len(learners())),
        Figure("strategies", 6, lambda: len({name.partition("/")[2] for name in learners()})),
        Figure("parameters of CLIPSeg rd64", 150_693_890, lambda: added("clipseg/frozen", "rd64")),
        *(
            Figure(f"{label}, {depth} prompt depth{'s' * (depth > 1)}, released code", published,
                   functools.partial(trained, f"clipseg/{name}", "rd64", depth=depth, **options))
            for label, name, options, counts in (
                ("CoOp", "coop", {}, (2_048, 22_528)),
                ("CoCoOp", "cocoop", {}, (68_160, 749_760)),
                ("CoCoOp, low rank", "cocoop", {"low_rank": True}, (68_096, 749_056)),
                ("VPT", "vpt", {}, (3_072, 33_792)),
                ("MaPLe", "maple", {}, (85_568, 941_248)),
                ("MaPLe, low rank", "maple", {"low_rank": True}, (85_504, 940_544)),
                ("Shared Attention, 1280 wide", "shared-attention", {"feed_forward": 1280}, (9_848_320, 108_331_520)),
                ("Shared Separate, 64 wide", "shared-separate", {"shared": 64}, (83_456, 918_016)),
                ("Shared Separate, 32 wide", "shared-separate", {"shared": 32}, (42_368, 466_048)),
            )
            for depth, published in zip((1, 11), counts, strict=True)
        ),
        Figure("CoCoOp on CRIS, 1 prompt depth", 100_928, lambda: trained("cris/cocoop", depth=1)),
        Figure("CoCoOp on CRIS, 11 prompt depths", 1_110_208, lambda: trained("cris/cocoop", depth=11)),
        Figure(
            "learnable upsampler of CLIPSeg", 1_602,
            lambda: trained("clipseg/coop", "rd64", upsampler=True) - trained("clipseg/coop", "rd64"),
        ),
        Figure(
            "learnable upsampler of CRIS", 34_370,
            lambda: trained("cris/coop", upsampler=True) - trained("cris/coop"),
        ),
        Figure("mask head of CLIPSeg rd64", 16_385, lambda: of_library("decoder.transposed_convolution", False)),
        *settings("tunevlseg/maple", LEARNERS),
        *settings("tunevlseg/decoder", {"lr": 2e-4, "weight_decay": 1e-3, "batch_size": 128, "max_epochs": 40}),
        *settings("tunevlseg/cris-full", {"lr": 5e-5, "weight_decay": 1e-3, "batch_size": 128, "max_epochs": 40}),
        Figure("CLIPSeg rd64 end-to-end, released code", 1_073_153, lambda: trained("clipseg/decoder", "rd64")),
    ],
    "LGA (MICCAI 2024)": [
        *(
            Figure(f"table 4, {n} fusion modules", published, functools.partial(trained, "sam/lga", n_ffm=n))
            for n, published in enumerate(("4.06 M", "4.66 M", "5.85 M", "7.04 M", "8.24 M", "9.43 M"))
        ),
        Figure(
            "table 3, attention alone", "6.15 M", lambda: trained("sam/lga", text_mlp=False, vision_mlp=False)
        ),
        Figure("table 3, and the vision MLP", "7.34 M", lambda: trained("sam/lga", text_mlp=False)),
        Figure("table 3, and the text MLP", "8.24 M", lambda: trained("sam/lga")),
        Figure("table 2, without text", "8.24 M", lambda: trained("sam/lga", text="none")),
        Figure(
            "table 2, text into the decoder alone", "4.20 M", None,
            "What this line adds could not be told from paper and code: the projection that lies unused in the "
            "released decoder would give 4.26 M.",
        ),
        Figure("whole encoder opened, released configuration", "97.9 M", None, "Not repeated: the paper freezes it."),
        Figure("a whole fusion module", 1_193_664, lambda: part("fusions.0", "sam/lga")),
        Figure("its vision half", 597_216, lambda: part("fusions.0.injector", "sam/lga")),
        Figure("its text half", 596_448, lambda: part("fusions.0.extractor", "sam/lga")),
        Figure(
            "parameters that one text token leaves without gradient", 596_736,
            lambda: idle() - idle(text_tokens="all"),
        ),
        Figure("of the decoder, without gradient", 132_612 + 419_424, lambda: idle(text_tokens="all")),
        Figure("SAM's image encoder", 89_670_912, lambda: part("library.vision_encoder", "sam/decoder")),
        Figure("its neck", 787_456, lambda: part("library.vision_encoder.neck", "sam/decoder")),
        Figure("SAM's mask decoder", 4_058_340, lambda: part("library.mask_decoder", "sam/decoder")),
        Figure("an attention", 295_968, lambda: part("fusions.0.injector.attention", "sam/lga")),
        *settings("lga/paper", REPORTS),
        Figure("inner width of the attentions", 96, lambda: in_lga("injector.attention.query.weight", 0)),
        Figure("hidden width of the MLPs", 192, lambda: in_lga("injector.mlp.down.weight", 0)),
        Figure("input, pixels", 1024, lambda: model("sam/lga").image_size),
        Figure("image tokens", 64 * 64, lambda: math.prod(states_of("sam/lga")[0][1:3])),
        Figure("last of the layers that have a module on their input", 8, lambda: places_of(LgaOptions(), 12)[-2]),
    ],
}  # fmt: skip


def line(figure: Figure) -> list[str]:
    """Return a figure's cells: what, published, ours, difference."""
    ours = None if figure.ours is None else figure.ours()
    published = figure.published if isinstance(figure.published, str) else shown(figure.published)
    if ours is None:
        return [figure.what, published, NO_SUCH, "-"]
    return [figure.what, published, shown(ours), difference(figure.published, ours)]


def shown(number: float) -> str:
    """Return a count with its thousands, any other number as short as it goes."""
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"


def difference(published: float | str, ours: float) -> str:
    """Return ours minus what was published, at the digits of it: 0, or a signed number."""
    if not isinstance(published, str):
        return f"{ours - published:+,}" if ours != published else "0"
    digits = published.removesuffix(" M")
    places = len(digits.partition(".")[2])
    off = round(ours / 1e6, places) - float(digits)
    return f"{off:+.{places}f} M" if round(off, places) else "0"


def page() -> str:
    """Return the whole page."""
    text = [HEAD]
    for paper, figures in FIGURES.items():
        rows = [line(figure) for figure in figures]
        silent = [f.what for f, row in zip(figures, rows, strict=True) if row[-1] != "0" and not f.why]
        if silent:
            raise SystemExit(f"{paper}: {silent[0]} differs and no sentence says why")
        cells = [["figure", "published", "ours", "difference"], ["---"] * 4, *rows]
        text += [f"## {paper}", "", *(f"| {' | '.join(row)} |" for row in cells), ""]
        text += [f"*{f.what}*: {f.why}\n" for f in figures if f.why]
    return "\n".join(text)


def main() -> int:
    """Rewrite the page; with --check, only say whether it is stale."""
    stale = not PAGE.exists() or PAGE.read_text() != page()
    if stale:
        print(f"{PAGE}: not what the models say")
        if "--check" not in sys.argv:
            PAGE.write_text(page())
    return int(stale and "--check" in sys.argv)


if __name__ == "__main__":
    raise SystemExit(main())
