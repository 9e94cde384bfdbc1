"""The image-only yardstick: monai's residual U-Net, trained by the same loop with the same loss, images and budget."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.nets.unet import UNet
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..deploy.files import read_json, write_json
from ..deploy.pixels import to_input, to_probability
from .data import Batch
from .fit import read_pictures, read_splits
from .models.runs import RUN
from .models.sizes import IMAGENET_MEAN, IMAGENET_STD, size_of
from .place import Place, session_of
from .recipe import Recipe
from .rules import ImageOnly
from .trainer import train_model

WEIGHTS = "unet.safetensors"


def make_unet(seed: int) -> nn.Module:
    """Return a U-Net with new weights: five levels of 16 to 256 channels, two residual units each, 1.6 M parameters."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        channels, strides = (16, 32, 64, 128, 256), (2, 2, 2, 2)
        return UNet(2, in_channels=3, out_channels=1, channels=channels, strides=strides, num_res_units=2)


@dataclass(frozen=True)
class PixelsForward:
    """The forward of a network that takes pictures alone."""

    net: nn.Module

    def __call__(self, batch: Batch) -> Tensor:
        """Return logits (B, 1, S, S)."""
        return self.net(batch.pixel_values)


def fit_unet(
    recipe: Recipe, data: Path | str, out: Path | str, say: Callable[[str], None]
) -> tuple[ImageOnly, dict[str, Any]]:
    """Train a U-Net as `recipe` says, its method and size aside, and return it with its facts.

    `out` then holds run.json and unet.safetensors; an unfinished training there is resumed, a finished one is loaded.
    """
    place, net = Place(Path(out)), make_unet(recipe.seed)
    size = recipe.image_size or size_of(recipe.size).image_size
    place.check()
    if not place.finished:
        _train(net, recipe, Path(data), place, size, say)
    net.load_state_dict(load_file(place.out / WEIGHTS))
    return ImageOnly(_field(net.eval(), size), "torch"), read_json(place.out / RUN)


def _train(net: nn.Module, recipe: Recipe, data: Path, place: Place, size: int, say: Callable[[str], None]) -> None:
    splits = read_splits(data, recipe)
    train, val = read_pictures(splits, recipe, size, IMAGENET_MEAN, IMAGENET_STD, say)
    place.begin(session_of(recipe, splits), resume=True)
    trained = train_model(net, PixelsForward(net), None, train, val, recipe, place, say)
    finished = place.state / "finished"
    finished.mkdir(exist_ok=True)
    save_file(net.state_dict(), finished / WEIGHTS)
    facts = {"minutes": round(trained.minutes, 2), "epochs": trained.epochs, "image_size": size}
    write_json(finished / RUN, facts | {"trained_parameters": sum(p.numel() for p in net.parameters())})
    place.finish(finished)


def _field(net: nn.Module, size: int) -> Callable[[np.ndarray], np.ndarray]:
    def field(image: np.ndarray) -> np.ndarray:
        values = torch.from_numpy(to_input(image, size, IMAGENET_MEAN, IMAGENET_STD))[None]
        with torch.inference_mode():
            return to_probability(net(values)[0, 0].numpy(), image.shape[0], image.shape[1])

    return field
