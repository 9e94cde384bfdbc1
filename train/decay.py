"""Which weights decay: all of them, or those of linears and convolutions alone."""

from typing import Any, Literal

from torch import nn

from .models.grafts import learning_parameters

Decay = Literal["all", "weights"]


def parameter_groups(model: nn.Module, decay: Decay) -> list[dict[str, Any]]:
    """Return the open parameters as an optimiser takes them, those that do not decay in a group of their own.

    "weights" is TuneVLSeg's choice: prompts, biases, norms and single numbers do not decay. What never gets a gradient
    is left out, or decay would shrink it.
    """
    trained = learning_parameters(model)
    decays = {name: decay == "all" or name in _weights(model) for name in trained}
    kept = {"params": [p for name, p in trained.items() if decays[name]]}
    free = {"params": [p for name, p in trained.items() if not decays[name]], "weight_decay": 0.0}
    return [group for group in (kept, free) if group["params"]]


def _weights(model: nn.Module) -> set[str]:
    """Return the names of the weights of linears, convolutions and the joined projections of attention."""
    maps = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)
    own = {f"{path}.weight" for path, module in model.named_modules() if isinstance(module, maps)}
    return own | {name for name, _ in model.named_parameters() if name.endswith("proj_weight")}
