"""The Lightning trainer of a recipe, put together: devices, precision, callbacks, resume."""

import contextlib
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.fabric.utilities.warnings import PossibleUserWarning
from torch import nn

from ..deploy.words import Tokenizer
from .callbacks import Best, Clock, History, Keeper, PatientStopping
from .data import Order, Pictures, make_loader
from .loop import Fit, Forward
from .models.grafts import learning_parameters, trained_parameters
from .place import Place
from .recipe import Recipe
from .splits import by_set
from .state import SafeCheckpointIO, load_weights

_PRECISION: dict[str, Any] = {"32": "32-true", "16-mixed": "16-mixed", "bf16-mixed": "bf16-mixed"}


def precision_of(recipe: Recipe) -> str:
    """Return "32", "16-mixed" or "bf16-mixed": what `auto` comes to on this machine."""
    if recipe.precision != "auto":
        return recipe.precision
    return "16-mixed" if device_kind() == "cuda" else "32"


def device_kind() -> str:
    """Return what training runs on here: "cuda" or "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def is_first_process() -> bool:
    """Is this the process that writes? Asked before Lightning has started the others, or in one of them."""
    node = os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", "0"))
    return int(node) == 0 and not rank_zero_only.rank  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Trained:
    """What a training came to: its epochs, the best of them (from 0) and its validation Dice, the minutes."""

    epochs: int
    best_epoch: int
    best_dice: float
    minutes: float
    is_global_zero: bool


def train_model(
    model: nn.Module,
    forward: Forward,
    tokenizer: Tokenizer | None,
    train: Pictures,
    val: Pictures,
    recipe: Recipe,
    place: Place,
    say: Callable[[str], None],
) -> Trained:
    """Train the open parameters of `model` until the recipe says stop, and leave those of the best epoch in it.

    Goes on from the checkpoint of `place` where there is one; checkpoint and log are written after each epoch, so that
    a KeyboardInterrupt loses no more than one.
    """
    best, clock = Best(), Clock(recipe.max_minutes, recipe.max_steps, recipe.clock)
    stopping = PatientStopping(recipe.min_epochs, recipe.patience, recipe.min_delta)
    history = History(place.metrics, clock, say)
    with _quiet():
        trainer = make_trainer(
            recipe, place, some_idle(model), [best, stopping, clock, history, Keeper(place.checkpoint)]
        )
        ranks: dict[str, Any] = {"rank": trainer.global_rank, "world_size": recipe.world_size}
        train_order = Order(len(train), recipe.batch_size, seed=recipe.seed, groups=groups_of(train, recipe), **ranks)
        val_order = Order(len(val), recipe.batch_size, **ranks)
        fit = Fit(model, forward, recipe, train_order, val_order, val.look.sets).train()
        with _interruptible():
            trainer.fit(
                fit,
                make_loader(train, train_order, tokenizer, recipe.num_workers),
                make_loader(val, val_order, tokenizer, recipe.num_workers),
                ckpt_path=str(place.checkpoint) if place.checkpoint.exists() else None,
            )
    load_weights(fit, best.weights)
    model.eval()
    return Trained(len(history.rows), best.epoch, best.score, clock.minutes, trainer.is_global_zero)


def groups_of(train: Pictures, recipe: Recipe) -> list[int]:
    """Return the sizes of the sets that are to be drawn from alike; none where every image is drawn alike."""
    return [len(own) for own in by_set(train.samples, train.look.sets).values()] if recipe.balance == "sets" else []


def some_idle(model: nn.Module) -> bool:
    """Are there open parameters that no gradient reaches?"""
    return len(learning_parameters(model)) < len(trained_parameters(model))


def make_trainer(recipe: Recipe, place: Place, idle: bool, callbacks: list[Any]) -> lightning.Trainer:
    """Return Lightning's trainer for a recipe; several processes use gloo on a CPU and nccl on GPUs.

    `idle`: some open parameters get no gradient, which the processes would otherwise wait for.
    """
    together = "ddp_find_unused_parameters_true" if idle else "ddp"
    return lightning.Trainer(
        accelerator=device_kind(),
        devices=recipe.devices,
        num_nodes=recipe.num_nodes,
        strategy=together if recipe.world_size > 1 else "auto",
        precision=_PRECISION[precision_of(recipe)],
        max_epochs=recipe.max_epochs,
        gradient_clip_val=recipe.clip_norm or None,
        callbacks=callbacks,
        plugins=[SafeCheckpointIO()],
        default_root_dir=place.state,
        logger=False,
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # `Order` deals out the batches
        inference_mode=False,  # validation may fill the cache, and training may not use inference tensors
    )


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C come out as KeyboardInterrupt: Lightning makes it exit code 1, and leaves the process deaf to more."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        if not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's advice and its standard output out of the way: figures alone belong there."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore", PossibleUserWarning)
            # Lightning asks torch in an old way what a tree's leaf is
            warnings.filterwarnings("ignore", ".*LeafSpec.*deprecated")
            yield
    finally:
        logger.setLevel(level)
