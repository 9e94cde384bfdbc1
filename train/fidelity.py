"""What a recipe's one field `fidelity` comes to: the variant of a method and of the loss (docs/fidelity.md)."""

from typing import Any

from torch import nn

from .loss import BalancedLoss, SegmentationLoss
from .models.methods import LGA, VLSM_ADAPTER, method_of, option_names
from .recipe import Recipe
from .schedule import Curve


def options_of(recipe: Recipe) -> dict[str, Any]:
    """Return the options of a recipe's method, released where the recipe says so and the method has such a variant."""
    if recipe.fidelity == "released" and "fidelity" in option_names(recipe.method):
        return {"fidelity": "released", **recipe.options}
    return dict(recipe.options)


def loss_of(recipe: Recipe) -> nn.Module:
    """Return the loss of a recipe.

    Of the published codes, VLSM-Adapter's alone has the double sigmoid, and LGA's alone a loss that balances classes.
    """
    weights, paper = (recipe.dice_weight, recipe.ce_weight), method_of(recipe.method).paper
    if recipe.fidelity == "released" and paper == LGA:
        return BalancedLoss(*weights)
    return SegmentationLoss(*weights, recipe.fidelity if paper == VLSM_ADAPTER else "paper")


def curve_of(recipe: Recipe) -> Curve:
    """Return the cosine of a recipe's schedule; LGA's released code has one of its own."""
    own = recipe.fidelity == "released" and method_of(recipe.method).paper == LGA
    return "seven-sixteenths" if own else "half"
