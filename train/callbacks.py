"""What happens around the epochs: the best weights, the clock, the log, the state on disk."""

import csv
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as lightning
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping
from torch import Tensor

from ..deploy.files import atomic_write

COLUMNS = ("epoch", "step", "train_loss", "val_loss", "val_dice", "val_iou", "lr", "minutes")


class Best(Callback):
    """Holds the open weights of the epoch with the best validation Dice; they ride inside the checkpoint."""

    def __init__(self) -> None:
        self.score, self.epoch = -1.0, -1
        self.weights: dict[str, Tensor] = {}

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Copy the weights where the Dice is the best so far."""
        score = trainer.callback_metrics["val_dice"].item()
        if score <= self.score:
            return
        self.score, self.epoch = score, trainer.current_epoch
        frozen = {name for name, p in pl_module.named_parameters() if not p.requires_grad}
        state = pl_module.state_dict()
        self.weights = {name: tensor.detach().cpu().clone() for name, tensor in state.items() if name not in frozen}

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs."""
        return {"score": self.score, "epoch": self.epoch, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        self.score, self.epoch, self.weights = state_dict["score"], state_dict["epoch"], state_dict["weights"]


class PatientStopping(EarlyStopping):
    """Stops when the validation Dice has not risen by `min_delta` for `patience` epochs, but not before `min_epochs`.

    Lightning's own `min_epochs` remembers a wish to stop even where the score has risen since.
    """

    def __init__(self, min_epochs: int, patience: int, min_delta: float) -> None:
        super().__init__("val_dice", mode="max", patience=patience, min_delta=min_delta, check_on_train_epoch_end=False)
        self.min_epochs = min_epochs

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Count this epoch; a wish to stop that comes too early is dropped."""
        before = trainer.should_stop
        super().on_validation_end(trainer, pl_module)
        if trainer.current_epoch + 1 < self.min_epochs:
            trainer.should_stop = before


class Clock(Callback):
    """Counts the minutes of training, over resumes too, and stops at the first batch past a limit.

    `kind` "cpu" counts what this process computed, on all its threads, so that a busy machine takes nothing away.
    """

    def __init__(
        self, max_minutes: float | None, max_steps: int | None = None, kind: Literal["wall", "cpu"] = "wall"
    ) -> None:
        self.max_minutes, self.max_steps = max_minutes, max_steps
        self._now = time.process_time if kind == "cpu" else time.monotonic
        self._earlier = 0.0
        self._start: float | None = None

    @property
    def minutes(self) -> float:
        """Minutes trained so far."""
        return self._earlier + (0.0 if self._start is None else (self._now() - self._start) / 60)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start counting."""
        self._start = self._now()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ask for a stop once time or steps are over, on every process alike."""
        if self.max_minutes is None and self.max_steps is None:
            return
        over = self.max_minutes is not None and self.minutes >= self.max_minutes
        over |= self.max_steps is not None and trainer.global_step >= self.max_steps
        trainer.should_stop |= trainer.strategy.reduce_boolean_decision(over, all=False)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs."""
        return {"minutes": self.minutes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        self._earlier = state_dict["minutes"]


class History(Callback):
    """One row per epoch: a line for the reader, and `metrics.csv`, whose rows ride in the checkpoint.

    Lightning's CSV logger appends, so a resumed run would log the interrupted epoch's steps twice.
    """

    def __init__(self, path: Path, clock: Clock, say: Callable[[str], None]) -> None:
        self.path, self.clock, self.say = path, clock, say
        self.rows: list[dict[str, Any]] = []

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Add the row of this epoch."""
        seen = {name: value.item() for name, value in trainer.callback_metrics.items()}
        known = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "minutes": round(self.clock.minutes, 4),
        }
        of_sets = sorted(name for name in seen if name.startswith("val_dice/"))
        row = {column: (known | seen)[column] for column in (*COLUMNS[:-1], *of_sets, COLUMNS[-1])}
        self.rows.append(row)
        if trainer.is_global_zero:
            atomic_write(self.path, self.csv())
            self.say(
                f"epoch {row['epoch']}: train loss {row['train_loss']:.4f}, val loss {row['val_loss']:.4f}, "
                f"val Dice {row['val_dice']:.4f}, lr {row['lr']:.1e}, {row['minutes']:.1f} min"
            )

    def csv(self) -> str:
        """Return the rows as CSV with a header."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        columns = list(self.rows[0]) if self.rows else COLUMNS
        writer.writerows([columns, *([row[column] for column in columns] for row in self.rows)])
        return text.getvalue()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        self.rows = state_dict["rows"]


class Keeper(Checkpoint):
    """Writes the whole state after each epoch, over the last one, so that a killed run resumes at that epoch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save; Lightning runs this after every other callback of the epoch."""
        trainer.save_checkpoint(self.path)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note whether training was over."""
        checkpoint["stopped"] = trainer.should_stop

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Do not train on where it was over."""
        trainer.should_stop = checkpoint["stopped"]
