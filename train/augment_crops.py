"""LGA's augmentation: a crop, small moves, and light; never a flip, so that left and right stay true."""

import numpy as np
import torch
from monai.transforms.spatial.array import Affine
from PIL import Image

AREA, RATIO = (0.5, 1.0), (3 / 4, 4 / 3)
MOVE_SHARE, LIGHT_SHARE = 0.3, 0.5
ROTATION, SHIFT, ZOOM, LIGHT = np.deg2rad(10), 0.05, 0.05, 0.3


def augment_crops(image: np.ndarray, mask: np.ndarray, text: str, seed: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Return a changed (image uint8 (S, S, 3), mask bool (S, S)) and the sentence; a seed gives one change.

    A crop of half to all of the area, its sides at most 4 : 3, is stretched to the whole. Three times in ten come a
    shift and a zoom of up to 5 % and a rotation of up to 10 degrees, black behind. Half the time light and contrast
    change by up to 30 %. All are uniform.
    """
    draw = np.random.default_rng(seed)
    image, mask = _crop(image, mask, draw)
    if draw.random() < MOVE_SHARE:
        image, mask = _move(image, mask, draw)
    if draw.random() < LIGHT_SHARE:
        contrast, brightness = draw.uniform(-LIGHT, LIGHT, 2)
        lit = image.astype(np.float32) * (1 + contrast) + 255 * brightness
        image = np.rint(lit.clip(0, 255)).astype(np.uint8)
    return np.ascontiguousarray(image), np.ascontiguousarray(mask), text


def _crop(image: np.ndarray, mask: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    side = image.shape[0]
    area, ratio = draw.uniform(*AREA), np.exp(draw.uniform(*np.log(RATIO)))
    width, height = (min(side, side * np.sqrt(area * one)) for one in (ratio, 1 / ratio))
    left, top = draw.uniform(0, side - width), draw.uniform(0, side - height)
    box, size = (left, top, left + width, top + height), (side, side)
    pixels = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, box=box)
    return np.asarray(pixels), np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST, box=box))


def _move(image: np.ndarray, mask: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    affine = Affine(
        rotate_params=float(draw.uniform(-ROTATION, ROTATION)),
        translate_params=[float(shift) for shift in draw.uniform(-SHIFT, SHIFT, 2) * image.shape[0]],
        scale_params=[float(draw.uniform(1 - ZOOM, 1 + ZOOM))] * 2,
        image_only=True,
        padding_mode="zeros",
    )
    pixels, target = (torch.from_numpy(np.array(one, np.float32)) for one in (image.transpose(2, 0, 1), mask[None]))
    moved = np.asarray(affine(pixels, mode="bilinear")).clip(0, 255)
    return np.rint(moved).astype(np.uint8).transpose(1, 2, 0), np.asarray(affine(target, mode="nearest"))[0] > 0.5
