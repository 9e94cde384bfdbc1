"""The training loop: what one step, one epoch and one validation are, for any model that turns a batch into logits."""

from collections.abc import Callable
from typing import Any

import lightning.pytorch as lightning
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ..deploy.errors import UserError
from .data import Batch, Order
from .decay import parameter_groups
from .fidelity import curve_of, loss_of
from .models import lora
from .recipe import Recipe
from .schedule import factor
from .seeds import derive
from .splits import set_of

Forward = Callable[[Batch], Tensor]


class Diverged(UserError):
    """The loss is no longer a number."""


class Fit(lightning.LightningModule):
    """Trains the open parameters of `model` through `forward`, a function from a batch to logits (B, 1, S, S).

    Logged each epoch, as means over all images of all processes: train_loss, val_loss, and val_dice and val_iou at
    network resolution with the threshold 0.5 (both empty: 1). Of several data folders, `sets`, each has its
    val_dice/NAME, and val_dice is the mean of these.
    """

    def __init__(
        self,
        model: nn.Module,
        forward: Forward,
        recipe: Recipe,
        train_order: Order,
        val_order: Order,
        sets: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe
        self.logits_of, self.train_order, self.val_order, self.sets = forward, train_order, val_order, sets
        self.loss = loss_of(recipe)
        self.strict_loading = False  # a checkpoint holds no frozen weights
        self._train_sums = self._val_sums = self._set_sums = torch.zeros(0)
        self._plateau: ReduceLROnPlateau | None = None
        self._plateau_state: dict[str, Any] | None = None

    def train(self, mode: bool = True) -> "Fit":
        """Let only what trains behave as in training; a frozen part keeps its dropout and statistics still."""
        super().train(False)
        if mode:
            self.training = True
            open_up(self.model)
        return self

    def configure_optimizers(self) -> AdamW:
        """Return AdamW over the open parameters."""
        recipe = self.recipe
        optimizer = AdamW(parameter_groups(self.model, recipe.decay), lr=recipe.lr, weight_decay=recipe.weight_decay)
        self._plateau = ReduceLROnPlateau(optimizer, factor=recipe.plateau_factor, patience=recipe.plateau_patience)
        if self._plateau_state is not None:
            self._plateau.load_state_dict(self._plateau_state)
        return optimizer

    def on_train_epoch_start(self) -> None:
        """Forget the sums of the last epoch."""
        self._train_sums = torch.zeros(2, dtype=torch.float64, device=self.device)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rate of a schedule whose length is known; it depends on the step alone, resumed or not."""
        if self.recipe.schedule == "plateau":
            return
        total = int(self.trainer.estimated_stepping_batches)
        share = factor(self.global_step, total, self.recipe.warmup_steps, curve_of(self.recipe))
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = self.recipe.lr * share

    def training_step(self, batch: Batch, step: int) -> Tensor:
        """Return the loss, weighted so that the average over processes is the mean over the global batch."""
        # seeded for each step: a loader draws too where an epoch begins, before or behind this in a resumed run
        torch.manual_seed(derive(self.recipe.seed, "dropout", self.current_epoch, step, self.global_rank))
        mine, together = self.train_order.share(step)
        loss = self.loss(self.logits_of(batch), batch.mask)
        if not torch.isfinite(loss):
            raise Diverged(
                f"the loss is {loss.item()} at step {self.global_step} (epoch {self.current_epoch}, batch {step}: "
                f"{', '.join(batch.names)}): look at these files or lower lr; the last whole epoch is kept for a resume"
            )
        self._train_sums += torch.stack([loss.detach().double() * mine, torch.tensor(mine, device=loss.device)])
        return loss * (mine * self.train_order.world_size / together)

    def on_train_epoch_end(self) -> None:
        """Lower the learning rate where the validation loss stalls.

        Done here and not by Lightning, which does it after the checkpoint of the epoch is written.
        """
        if self.recipe.schedule != "plateau":
            return
        assert self._plateau is not None
        self._plateau.step(self.trainer.callback_metrics["val_loss"].item())

    def on_validation_epoch_start(self) -> None:
        """Forget the sums of the last validation."""
        self._val_sums = torch.zeros(4, dtype=torch.float64, device=self.device)
        self._set_sums = torch.zeros(len(self.sets), 2, dtype=torch.float64, device=self.device)

    def validation_step(self, batch: Batch, step: int) -> None:
        """Add up loss, Dice and IoU of the images of this process that count; UserError for a loss of NaN."""
        mine, _ = self.val_order.share(step)
        logits, masks = self.logits_of(batch)[:mine], batch.mask[:mine]
        if not mine:
            return
        dice, iou = overlap(logits > 0, masks > 0.5)
        loss = self.loss(logits, masks).double() * mine
        if not torch.isfinite(loss):
            raise Diverged(
                f"the validation loss is {loss.item()} after epoch {self.current_epoch} (batch {step}: "
                f"{', '.join(batch.names[:mine])}): the weights diverged, lower lr, or look at these files; the last "
                "whole epoch is kept for a resume"
            )
        self._val_sums += torch.stack([loss, dice.sum(), iou.sum(), torch.tensor(mine, device=loss.device)])
        for name, own in zip(batch.names if self.sets else (), dice, strict=False):
            self._set_sums[self.sets.index(set_of(name))] += torch.stack([own, torch.ones_like(own)])

    def on_validation_epoch_end(self) -> None:
        """Log the means over all processes; UserError where they are not finite, before anything is saved."""
        loss, dice, iou, count = self._summed(self._val_sums)
        if not torch.isfinite(loss):
            raise Diverged(
                f"the validation loss is {loss.item()} after epoch {self.current_epoch}: the weights diverged, "
                "lower lr; the last whole epoch is kept for a resume"
            )
        train_loss, seen = self._summed(self._train_sums)
        metrics = {"val_loss": loss / count, "val_dice": dice / count, "val_iou": iou / count}
        if self.sets:
            sums = self._summed(self._set_sums)
            of_sets = dict(zip(self.sets, sums[:, 0] / sums[:, 1], strict=True))
            metrics |= {f"val_dice/{name}": value for name, value in of_sets.items()}
            metrics["val_dice"] = torch.stack(list(of_sets.values())).mean()
        self.log_dict(metrics | {"train_loss": train_loss / seen.clamp(min=1)}, batch_size=1)

    def _summed(self, sums: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(sums, reduce_op="sum")  # type: ignore[return-value]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what training changed, and the state of the learning-rate schedule."""
        assert self._plateau is not None
        frozen = {name for name, p in self.named_parameters() if not p.requires_grad}
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k not in frozen}
        checkpoint["plateau"] = self._plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Hold the schedule's state until the optimiser exists."""
        self._plateau_state = checkpoint["plateau"]


def open_up(model: nn.Module) -> None:
    """Put into training mode every part of `model` whose parameters all train."""
    for module in model.modules():
        flags = [p.requires_grad for p in module.parameters()]
        if flags and all(flags):
            module.train()
    for _, layer in lora.layers(model):
        layer.lora_dropout.train()  # it has no parameters, and the layer's own weight is frozen


def overlap(pred: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Return Dice and IoU per image, float64 (B,), of two bool masks (B, 1, H, W); both empty: 1."""
    pred, true = pred.flatten(1), true.flatten(1)
    both = (pred & true).sum(1).double()
    areas = pred.sum(1).double() + true.sum(1).double()
    dice = torch.where(areas > 0, 2 * both / areas, 1.0)
    return dice, torch.where(areas > 0, both / (areas - both), 1.0)
