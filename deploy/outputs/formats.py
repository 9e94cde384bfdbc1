"""What is written of a file's answers: masks, overlays, COCO RLE, DICOM SEG, NIfTI, each as the bytes of a file."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import UserError
from ..inputs.picture import Picture, Pictures
from .area import measure_area
from .dicom_seg import dicom_seg_bytes
from .nifti_masks import nifti_bytes
from .overlay import ACCENT, draw_mask
from .rle import bounding_box, to_rle

COLOURS = (ACCENT, (255, 140, 40), (70, 170, 255), (255, 90, 160), (250, 230, 60), (150, 110, 255), (60, 220, 190))
"""One for each class, in turn."""
PER_PICTURE = ("png", "overlay")
"""Formats that write a file for each picture of a stack; the others write one for all."""
DEFAULTS = {"picture": ("png",), "dicom": ("png",), "nifti": ("nifti",)}
_ONLY = {"dicom-seg": ("dicom", "DICOM"), "nifti": ("nifti", "NIfTI")}


@dataclass(frozen=True)
class Answers:
    """Everything that was found in one file.

    Attributes:
        pictures: the file.
        labels: of each picture a class map, uint8 (H, W): 0, or the number of a prompt, from 1.
        prompts: what was asked for.
        model: the bundle's name.
        identity: a hash of the model.
    """

    pictures: Pictures
    labels: list[np.ndarray]
    prompts: Sequence[str]
    model: str
    identity: str


def check_format(form: str, pictures: Pictures) -> None:
    """Raise UserError unless a file of this kind can be answered in this format."""
    kind, name = _ONLY.get(form, (pictures.kind, ""))
    if kind != pictures.kind:
        raise UserError(f"{pictures.source} is no {name}, which {form} is written for: ask for png, overlay or rle")


def picture_bytes(form: str, picture: Picture, labels: np.ndarray, prompts: Sequence[str]) -> bytes:
    """Return a PNG of one picture's answer: the mask (0 and 255), the class map (its numbers), or the overlay."""
    if form == "overlay":
        return png_bytes(Image.fromarray(draw_classes(picture.pixels, labels)))
    if len(prompts) == 1:
        return png_bytes(Image.fromarray(np.where(labels, np.uint8(255), np.uint8(0))))
    image = Image.fromarray(labels)
    image.putpalette([0, 0, 0, *(value for i in range(len(prompts)) for value in COLOURS[i % len(COLOURS)])])
    return png_bytes(image)


def file_bytes(form: str, answers: Answers, path: Path) -> bytes:
    """Return the one file of all pictures: `rle`, `dicom-seg` or `nifti`, the last packed where `path` says so.

    Raises:
        UserError: the library of the format is absent, or the source lacks what the format refers to.
    """
    if form == "rle":
        return json.dumps(coco(answers), ensure_ascii=False).encode()
    labels = np.stack(answers.labels)
    if form == "nifti":
        return nifti_bytes(labels, answers.pictures.native, path.suffix == ".gz")
    sources = [answers.pictures.native]
    return dicom_seg_bytes(sources, labels, answers.prompts, answers.model, answers.identity)


def draw_classes(pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return a picture, uint8 (H, W, 3), with each class of a map, uint8 (H, W), drawn in a colour of its own."""
    for number in np.unique(labels[labels > 0]).tolist():
        pixels = draw_mask(pixels, labels == number, colour=COLOURS[(number - 1) % len(COLOURS)])
    return pixels


def coco(answers: Answers) -> dict[str, Any]:
    """Return a COCO data set of the answers: images, categories (the prompts), annotations in compressed RLE."""
    name, many = answers.pictures.source.name, len(answers.labels) > 1
    images, annotations = [], []
    for i, labels in enumerate(answers.labels):
        height, width = labels.shape
        images.append(
            {"id": i + 1, "file_name": name, "height": height, "width": width} | ({"index": i} if many else {})
        )
        for number in range(1, len(answers.prompts) + 1):
            mask = labels == number
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i + 1,
                    "category_id": number,
                    "segmentation": to_rle(mask),
                    "area": measure_area(mask).pixels,
                    "bbox": bounding_box(mask),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": prompt} for number, prompt in enumerate(answers.prompts, 1)]
    return {"images": images, "categories": categories, "annotations": annotations}


def merge_coco(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return several COCO data sets of the same categories as one, numbered anew."""
    merged: dict[str, Any] = {"images": [], "categories": parts[0]["categories"], "annotations": []}
    for part in parts:
        shift = len(merged["images"])
        merged["images"] += [image | {"id": image["id"] + shift} for image in part["images"]]
        for annotation in part["annotations"]:
            numbers = {"id": len(merged["annotations"]) + 1, "image_id": annotation["image_id"] + shift}
            merged["annotations"].append(annotation | numbers)
    return merged


def png_bytes(image: Image.Image) -> bytes:
    """Return an image as the bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
