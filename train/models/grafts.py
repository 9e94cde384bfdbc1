"""Putting small trained parts on named places of a frozen model, and listing them again."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn


class Grafted(nn.Module):
    """Run `inner`, then `graft` on its first output; further outputs pass through untouched."""

    def __init__(self, inner: nn.Module, graft: nn.Module) -> None:
        super().__init__()
        self.inner: Any = inner
        self.graft: Any = graft

    def forward(self, *args, **kwargs) -> Tensor | tuple:
        """Return what `inner` returns, with its first output passed through `graft`."""
        out = self.inner(*args, **kwargs)
        return (self.graft(out[0]), *out[1:]) if isinstance(out, tuple) else self.graft(out)


def graft(model: nn.Module, place: str, part: nn.Module) -> None:
    """Put `part` on the output of the sub-module at dotted path `place`."""
    parent, _, name = place.rpartition(".")
    owner = model.get_submodule(parent)
    setattr(owner, name, Grafted(getattr(owner, name), part))


def grafts(model: nn.Module) -> Iterator[tuple[str, Grafted]]:
    """Yield every graft with the path of the place it sits on."""
    for path, module in model.named_modules():
        if isinstance(module, Grafted):
            yield path, module


def freeze(model: nn.Module) -> None:
    """Stop every gradient; a method then opens what it trains."""
    model.requires_grad_(False)


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return what trains, by name: what a count counts."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def learning_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return what trains and gets a gradient, by name; the others are the model's `idle` ones."""
    idle = getattr(model, "idle", ())
    return {name: one for name, one in trained_parameters(model).items() if not name.startswith(idle)}


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """Return what training changes, by name: what trains, and the running statistics of batch norms that train."""
    state: dict[str, Tensor] = dict(trained_parameters(model))
    for path, module in model.named_modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.weight.requires_grad:
            state |= {f"{path}.{name}": buffer for name, buffer in module.named_buffers(recurse=False)}
    return state
