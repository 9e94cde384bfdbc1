"""What a recipe's one field `fidelity` comes to: the variant of a method and of the loss (docs/fidelity.md)."""

from typing import Any

from .loss import SegmentationLoss
from .models.methods import VLSM_ADAPTER, method_of, option_names
from .recipe import Recipe


def options_of(recipe: Recipe) -> dict[str, Any]:
    """Return the options of a recipe's method, released where the recipe says so and the method has such a variant."""
    if recipe.fidelity == "released" and "fidelity" in option_names(recipe.method):
        return {"fidelity": "released", **recipe.options}
    return dict(recipe.options)


def loss_of(recipe: Recipe) -> SegmentationLoss:
    """Return the loss of a recipe; of the published codes, VLSM-Adapter's alone has the double sigmoid."""
    own = method_of(recipe.method).paper == VLSM_ADAPTER
    return SegmentationLoss(recipe.dice_weight, recipe.ce_weight, recipe.fidelity if own else "paper")
