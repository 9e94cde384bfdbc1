"""Augmentation that keeps picture, mask and sentence true to each other."""

import re

import numpy as np
import torch
from monai.transforms.intensity.array import AdjustContrast, ScaleIntensity
from monai.transforms.spatial.array import Affine, Flip

HORIZONTAL = {"left": "right", "right": "left"}
VERTICAL = {"top": "bottom", "bottom": "top", "upper": "lower", "lower": "upper"}
ROTATION, SHIFT, ZOOM, CONTRAST, BRIGHTNESS = 0.17, 0.05, 0.1, 0.25, 0.15  # radians, shares of the side, of one


def swap_words(text: str, pairs: dict[str, str]) -> str:
    """Return `text` with whole words exchanged as `pairs` says, each in the case it was written in."""
    words = re.compile(rf"\b({'|'.join(pairs)})\b", re.IGNORECASE)
    return words.sub(lambda match: _in_case_of(match[0], pairs[match[0].lower()]), text)


def augment(image: np.ndarray, mask: np.ndarray, text: str, seed: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Return a changed (image uint8 (S, S, 3), mask bool (S, S), sentence); the same seed gives the same change.

    Each flip has probability 1/2; a horizontal one swaps left and right in the sentence, a vertical one top and
    bottom, upper and lower. Then come a rotation of up to 10 degrees, a shift of up to 5 %, a zoom of up to 10 %, and a
    change of contrast and brightness, all uniform.
    """
    draw = np.random.default_rng(seed)
    pixels = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32) / 255)
    target = torch.from_numpy(mask[None].astype(np.float32))
    for axis, pairs in ((1, HORIZONTAL), (0, VERTICAL)):
        if draw.random() < 0.5:
            flip = Flip(spatial_axis=axis)
            pixels, target, text = flip(pixels), flip(target), swap_words(text, pairs)
    pixels, target = _move(pixels, target, draw)
    pixels = _relight(pixels, draw)
    planes = np.rint(np.asarray(pixels).clip(0, 1) * 255).astype(np.uint8)
    return planes.transpose(1, 2, 0).copy(), np.asarray(target)[0] > 0.5, text


def _move(pixels: torch.Tensor, target: torch.Tensor, draw: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    side = pixels.shape[-1]
    affine = Affine(
        rotate_params=float(draw.uniform(-ROTATION, ROTATION)),
        translate_params=[float(shift) for shift in draw.uniform(-SHIFT, SHIFT, 2) * side],
        scale_params=[float(draw.uniform(1 - ZOOM, 1 + ZOOM))] * 2,
        image_only=True,
    )
    moved = affine(pixels, mode="bilinear", padding_mode="border")
    return moved, affine(target, mode="nearest", padding_mode="zeros")  # type: ignore[return-value]


def _relight(pixels: torch.Tensor, draw: np.random.Generator) -> torch.Tensor:
    gamma = float(draw.uniform(1 - CONTRAST, 1 + CONTRAST))
    brightness = float(draw.uniform(-BRIGHTNESS, BRIGHTNESS))
    return ScaleIntensity(minv=None, maxv=None, factor=brightness)(AdjustContrast(gamma)(pixels))  # type: ignore[return-value]


def _in_case_of(model: str, word: str) -> str:
    if model.isupper():
        return word.upper()
    return word.capitalize() if model[0].isupper() else word
