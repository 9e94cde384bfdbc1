"""What a training run is told: one frozen dataclass, its TOML files and the `--set key=value` of the command line."""

import dataclasses
import types
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..deploy.errors import UserError
from .recipe_files import RecipeFile, read_preset, read_recipe, shipped, tomllib

__all__ = ["Recipe", "load_recipe", "shipped"]


@dataclass(frozen=True)
class Recipe:
    """One training run. Defaults are those of VLSM-Adapter's dense adapters (arXiv 2405.06196).

    Attributes:
        method: backbone/method, as `vlseg methods` lists them.
        size: size of the backbone.
        weights: None for the size's own weights, "random", or a local folder.
        options: options of the method (rank, first_layer, ...).
        image_size: side of the square input in pixels; None: the size's own.
        prompt: key of the sentence used in training: "p0", "p1", ..., or "random" (every key but p0).
        val_prompt: key used on validation and test images; None: the same as `prompt`.
        augment: flips, small affine moves and light changes on training images, words kept true.
        augmentation: what `augment` does: "flips" as above, or "crops", LGA's, which never flips.
        train_images: train on so many of the images, those whose names' hashes come first; None: on all. Of several
            data folders, on so many of each.
        val_images: validate on so many, chosen alike; None: on all.
        balance: of several data folders, an epoch draws by "images" (each once) or by "sets" (as many of each folder).
        negatives: share of the training examples that are asked for something that is not there; the answer is empty.
        start: folder of a finished run of the same method, whose trained part this one starts from; None: anew.
        seed: decides new weights, order, prompts, dropout and augmentation.
        lr: learning rate of AdamW.
        weight_decay: decoupled weight decay of AdamW.
        decay: what decays: "all", or "weights" of linears and convolutions alone (not prompts, biases and norms).
        batch_size: images per optimiser step, over all devices together.
        max_epochs: upper limit of epochs.
        min_epochs: epochs before early stopping may act.
        max_minutes: training time after which it stops, then validates; None: no limit.
        clock: what `max_minutes` counts: "wall", or "cpu", what this process computed, however busy the machine is.
        max_steps: optimiser steps after which it stops, then validates; None: no limit.
        patience: epochs without a better validation Dice before it stops early.
        min_delta: smallest gain of validation Dice that counts as better.
        clip_norm: upper limit of the gradient norm; 0: none.
        schedule: how the learning rate moves: "plateau" lowers it where the validation loss stalls; "cosine" is a
            linear warm-up and then a cosine down to nothing at the last step of `max_epochs`.
        warmup_steps: steps of the warm-up; cosine alone.
        plateau_factor: factor on the learning rate when the validation loss stalls.
        plateau_patience: epochs the validation loss may stall before that.
        dice_weight: weight of the Dice loss.
        ce_weight: weight of the cross-entropy.
        fidelity: "released" repeats the defects of a method's published code (docs/fidelity.md); "paper" does not.
        precision: "auto" is fp16 autocast on a GPU and fp32 elsewhere.
        stored: numbers of the saved file: "float16" halves it; threshold and metrics are then of the rounded ones.
        cache: where states below the first trained parameter are kept. "auto": in memory, or off with `augment`.
        cache_bytes: size limit of that cache; what does not fit is computed again each time.
        reports: safetensors file that keeps what a frozen text encoder makes of each sentence, for this run and later
            ones; made where it is not there; None: none.
        cache_folder: folder of a disk cache, kept for later runs; None: inside the run, removed at its end.
        keep_bytes: size limit of the decoded images kept in memory.
        num_workers: processes that load data; 0: the training process itself.
        devices: processes (CPU) or GPUs per node.
        num_nodes: machines.
    """

    method: str = "clipseg/dense-vl"
    size: str = "tiny"
    weights: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    image_size: int | None = None
    prompt: str = "random"
    val_prompt: str | None = None
    augment: bool = False
    augmentation: Literal["flips", "crops"] = "flips"
    train_images: int | None = None
    val_images: int | None = None
    balance: Literal["images", "sets"] = "images"
    negatives: float = 0.0
    start: str | None = None
    seed: int = 41
    lr: float = 1e-3
    weight_decay: float = 1e-3
    decay: Literal["all", "weights"] = "all"
    batch_size: int = 32
    max_epochs: int = 200
    min_epochs: int = 10
    max_minutes: float | None = None
    clock: Literal["wall", "cpu"] = "wall"
    max_steps: int | None = None
    patience: int = 20
    min_delta: float = 1e-4
    clip_norm: float = 0.5
    schedule: Literal["plateau", "cosine"] = "plateau"
    warmup_steps: int = 0
    plateau_factor: float = 0.3
    plateau_patience: int = 5
    dice_weight: float = 1.5
    ce_weight: float = 1.0
    fidelity: Literal["paper", "released"] = "paper"
    precision: Literal["auto", "32", "16-mixed", "bf16-mixed"] = "auto"
    stored: Literal["float32", "float16"] = "float32"
    cache: Literal["auto", "off", "memory", "disk"] = "auto"
    cache_bytes: int = 4 * 2**30
    reports: str | None = None
    cache_folder: str | None = None
    keep_bytes: int = 2 * 2**30
    num_workers: int = 0
    devices: int = 1
    num_nodes: int = 1

    def __post_init__(self) -> None:
        """Refuse values that no run can have; UserError names the key, the value and the range."""
        for key, low in LOWEST.items():
            value = getattr(self, key)
            if value is not None and not value >= low:
                raise UserError(f"{key} = {value} is too small: expected at least {low}")
        if not 0 < self.plateau_factor < 1 or not self.lr > 0:
            raise UserError(f"expected lr > 0 and 0 < plateau_factor < 1, got {self.lr} and {self.plateau_factor}")
        if not 0 <= self.negatives < 1:
            raise UserError(f"negatives = {self.negatives} is no share: expected 0 to below 1, such as 0.25")
        if self.dice_weight + self.ce_weight <= 0:
            raise UserError("dice_weight and ce_weight are both 0: one of them must be above 0")
        if self.min_epochs > self.max_epochs:
            raise UserError(f"min_epochs = {self.min_epochs} is above max_epochs = {self.max_epochs}: lower it")
        if self.batch_size % self.world_size:
            raise UserError(
                f"batch_size = {self.batch_size} does not divide over {self.world_size} processes: choose a multiple"
            )
        if self.cache in ("memory", "disk") and self.augment:
            raise UserError(
                f"cache = {self.cache} cannot hold states of images that augment changes each time: set one of them off"
            )

    @property
    def world_size(self) -> int:
        """Processes that train together."""
        return self.devices * self.num_nodes

    @property
    def state_cache(self) -> Literal["off", "memory", "disk"]:
        """What `cache` comes to: "auto" is memory, or off where images change."""
        if self.cache != "auto":
            return self.cache
        return "off" if self.augment else "memory"

    @property
    def held_out_prompt(self) -> str:
        """Key of the sentences that validation and test use."""
        return self.val_prompt or self.prompt

    def replace(self, **changes: Any) -> "Recipe":
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return every field, as JSON takes it."""
        return asdict(self)


LOWEST = {
    "image_size": 1, "batch_size": 1, "max_epochs": 1, "min_epochs": 0, "max_minutes": 0, "patience": 1,
    "min_delta": 0, "clip_norm": 0, "plateau_patience": 0, "dice_weight": 0, "ce_weight": 0, "weight_decay": 0,
    "warmup_steps": 0, "cache_bytes": 0, "keep_bytes": 0, "num_workers": 0, "devices": 1, "num_nodes": 1, "seed": 0,
    "train_images": 1, "val_images": 1, "max_steps": 1,
}  # fmt: skip


def load_recipe(recipe: str | Path | None = None, overrides: Sequence[str] = (), **changes: Any) -> Recipe:
    """Return the recipe of a run.

    `recipe` is a TOML file, whose key `base` may name a shipped recipe to start from, or the name of a shipped one.
    Without it, it is the published preset of the method, and for the small embedded size `recipes/small.toml` on top
    (steps that two CPU cores can take). `changes` are fields such as `method` and `size`, and last come `overrides`,
    each "key=value" (a method's option is "options.rank=8"). UserError for an unknown key or a value of the wrong kind,
    with what was expected, and where neither a recipe nor a method is given.
    """
    values = recipe_file(recipe, **changes).fields | changes
    if "method" not in values:
        raise UserError("no method is given: name one, such as clipseg/dense-vl, or a recipe that does")
    given = dict(_parse(override) for override in overrides)
    options = {key.partition(".")[2]: value for key, value in given.items() if key.startswith("options.")}
    values |= {key: value for key, value in given.items() if not key.startswith("options.")}
    return Recipe(**_checked(values | {"options": {**values.get("options", {}), **options}}))


def recipe_file(recipe: str | Path | None = None, method: str = "", size: str = "tiny", **_: Any) -> RecipeFile:
    """Return what `load_recipe` starts from: the recipe that is named, or the preset of the method at that size."""
    return read_preset(method, size in ("tiny", "nano")) if recipe is None else read_recipe(recipe)


def _parse(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set {override!r} is not understood: expected key=value, such as lr=1e-4")
    if text.lower() == "none":
        return key, None
    try:
        return key, tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return key, text  # a bare word is a string


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(Recipe)
    known = [f.name for f in fields(Recipe)]
    for key in values:
        if key not in known:
            raise UserError(f"a recipe has no key {key!r}; known: {', '.join(known)}")
    return {key: _typed(key, value, hints[key]) for key, value in values.items()}


def _typed(key: str, value: Any, hint: Any) -> Any:
    choices = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    for choice in choices:
        if get_origin(choice) is Literal:
            # `--set precision=32` reads as a number
            if str(value) in get_args(choice):
                return str(value)
        elif choice is float and type(value) in (int, float):
            return float(value)
        elif type(value) is (get_origin(choice) or choice):
            return value
    raise UserError(f"{key} = {value!r} is of the wrong kind: expected {_kind(choices)}")


def _kind(choices: Sequence[Any]) -> str:
    words = {float: "a number", int: "a whole number", bool: "true or false", str: "a text", type(None): "none"}
    names = [
        " or ".join(get_args(choice)) if get_origin(choice) is Literal else words.get(choice, "a table")
        for choice in choices
    ]
    return " or ".join(names)
