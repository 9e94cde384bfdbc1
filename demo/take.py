"""Files to take away: mask and overlay as PNG at the picture's own size, and a DICOM SEG, written when asked for."""

from pathlib import Path

import numpy as np
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from ..deploy.errors import UserError
from ..deploy.inputs.dicom import read_dataset
from ..deploy.manifest import Manifest
from ..deploy.outputs.dicom_seg import dicom_seg_bytes
from ..deploy.pixels import to_mask
from .overlay import draw_mask
from .picture import to_png
from .session import Answer

KINDS = {"mask": "Mask PNG", "overlay": "Overlay PNG", "dicom": "DICOM SEG"}
# the browser follows the link once it leads to the file
FOLLOW = "() => setTimeout(() => document.querySelector('#taken')?.click(), 150)"


def take(kind: str, answer: Answer | None, manifests: dict[str, Manifest], threshold: float, opacity: float) -> str:
    """Return the path of a file of `KINDS` made from an answer.

    Raises:
        UserError: there is no answer yet, or it is not about a DICOM picture and a DICOM SEG was asked for.
    """
    if answer is None:
        raise UserError("there is nothing to download yet: press Segment first")
    mask = to_mask(answer.probability, threshold)
    if kind == "dicom":
        data = _dicom(answer, mask, manifests[answer.bundle])
    elif kind == "overlay":
        data = to_png(draw_mask(answer.seen.pixels, mask, opacity))
    else:
        data = to_png(mask.astype(np.uint8) * 255)
    ending = "seg.dcm" if kind == "dicom" else f"{kind}.png"
    return save_bytes_to_cache(data, f"{Path(answer.seen.picture.source).stem}-{ending}", get_upload_folder())


def _dicom(answer: Answer, mask: np.ndarray, manifest: Manifest) -> bytes:
    """Return the DICOM SEG of one frame's mask; the other frames of its file are empty."""
    picture = answer.seen.picture
    if picture.kind != "dicom":
        raise UserError("a DICOM SEG belongs to a DICOM picture, and this is none: open one, or take the mask as PNG")
    labels = np.zeros((answer.seen.count, *mask.shape), np.uint8)
    labels[picture.index] = mask
    identity = manifest.weights_hash or manifest.name
    return dicom_seg_bytes([read_dataset(picture.source)], labels, [answer.prompt], manifest.name, identity)
