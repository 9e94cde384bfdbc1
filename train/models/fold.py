"""Fold a trained CLIPSeg for export: exact rewritings that leave fewer or cheaper operations (design: folding)."""

from collections.abc import Collection
from typing import Any, cast

import torch
from torch import nn

from .adapters import Bottleneck, FromHidden
from .clipseg import Clipseg
from .grafts import Grafted, grafts
from .linear_folds import fold_down, fold_layernorm
from .lora import merge
from .promptable import Promptable
from .prompts import Place


def down_sites(model: Promptable) -> list[str]:
    """List the places where an adapter's down-projection can enter the linear before it; none but in a CLIPSeg.

    Only attention outputs: behind the MLP the fold would widen a linear whose input is four times as wide.
    """
    if not isinstance(model, Clipseg):
        return []
    return [path for path, one in grafts(model) if isinstance(one.graft, Bottleneck) and hasattr(one.inner, "out_proj")]


def fold(model: Clipseg, down: Collection[str] = ()) -> list[str]:
    """Fold `model` in place and return what was done, one phrase each.

    `down` names the places (of `down_sites`) whose down-projection is folded; whether that pays is for a measurement
    to say. LoRA, LayerNorm affines, the interpolated position table and learned prompts are always folded.
    """
    done = merge(model)
    done += [fold_positions(_bare(model.vision.embeddings), model.image_size), _fold_norms(model)]
    done += [*fold_prompts(model), *_lengthen_positions(model)]
    for path in down:
        _fold_down_at(cast(Grafted, model.get_submodule(path)))
    return done + [f"down-projection at {path}" for path in down]


@torch.no_grad()
def fold_positions(table: Any, image_size: int) -> str:
    """Resize the position table of a CLIP's image embeddings once, as the library does at every call."""
    grid = image_size // table.patch_size
    width = table.position_embedding.embedding_dim
    tokens = torch.empty(1, grid * grid + 1, width, device=table.position_embedding.weight.device)
    resized = table.interpolate_pos_encoding(tokens, image_size, image_size).reshape(-1, width).clone()
    table.position_embedding = nn.Embedding.from_pretrained(resized)
    table.num_positions = len(resized)
    table.image_size = image_size
    table.position_ids = torch.arange(len(resized)).expand(1, -1)
    return f"position table at {grid} x {grid}"


@torch.no_grad()
def _lengthen_positions(model: Clipseg) -> list[str]:
    """Give the text as many more positions as there are learned prompts, zeros: a graph takes any 77 tokens then.

    No word gets there, since sentences are cut to leave room, and what pads them behind the end token is not seen.
    """
    if not model.text_prompts:
        return []
    table = model.text.embeddings
    weight = table.position_embedding.weight
    table.position_embedding = nn.Embedding.from_pretrained(nn.functional.pad(weight, (0, 0, 0, model.text_prompts)))
    table.position_ids = torch.arange(len(table.position_embedding.weight), device=weight.device).expand(1, -1)
    return [f"{model.text_prompts} more text positions"]


def fold_prompts(model: Promptable) -> list[str]:
    """Compute every learned prompt once; what made them is left behind."""
    if model.text_depends_on_image:  # then they are another image's tomorrow
        return []
    places = [module for module in model.modules() if isinstance(module, Place)]
    for place in places:
        place.fix()
    model.learner = None
    return [f"learned prompts at {len(places)} places"] if places else []


def _fold_norms(model: Clipseg) -> str:
    layers = model.encoder_layers
    for layer in layers:
        attention, mlp = _bare(layer.self_attn), _bare(layer.mlp)
        readers = [attention.q_proj, attention.k_proj, attention.v_proj]
        layer.layer_norm1, (attention.q_proj, attention.k_proj, attention.v_proj) = fold_layernorm(
            layer.layer_norm1, readers
        )
        layer.layer_norm2, (mlp.fc1,) = fold_layernorm(layer.layer_norm2, [mlp.fc1])
    return f"{2 * len(layers)} LayerNorm affines"


def _fold_down_at(grafted: Grafted) -> None:
    grafted.inner.out_proj = fold_down(grafted.inner.out_proj, grafted.graft.down)
    grafted.graft = FromHidden(grafted.graft)


def _bare(module: nn.Module) -> Any:
    return module.inner if isinstance(module, Grafted) else module
