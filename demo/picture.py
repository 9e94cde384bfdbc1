"""The page's pictures, in and out: uploads are handed on as files, drawings go out as quickly packed PNG."""

import base64
import io
from typing import Any

import gradio as gr
import numpy as np
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

SOURCES = ["upload", "clipboard", "webcam"]


def picture_input(**look: Any) -> gr.Image:
    """Return an image input whose value is the path of the upload, or None.

    gradio's own would open the file first, and answer a damaged one with a sentence that helps nobody. Not a subclass:
    gradio writes a stub file beside each. No event may answer it with an update, for which gradio builds its own anew.
    """
    image = gr.Image(type="filepath", image_mode=None, **{"sources": SOURCES, **look})
    open_and_check = image.preprocess
    image.preprocess = lambda payload: str(payload.path) if payload and payload.path else open_and_check(payload)
    return image


def picture_output(**look: Any) -> gr.Image:
    """Return an image output for what `written` returns, or None."""
    return gr.Image(type="filepath", format="png", interactive=False, buttons=["fullscreen"], **look)


def written(values: np.ndarray) -> str:
    """Write an array, uint8 (H, W, 3), among the page's files as PNG; return its path."""
    return save_bytes_to_cache(to_png(values), "picture.png", get_upload_folder())


def to_png(values: np.ndarray) -> bytes:
    """Return an array as PNG; the lowest compression, which is several times faster and little larger."""
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG", compress_level=1)
    return file.getvalue()


def data_uri(values: np.ndarray) -> str:
    """Return an array as a PNG within an address, so that it never touches the disk."""
    return "data:image/png;base64," + base64.b64encode(to_png(values)).decode()
