"""The picture's input: it hands on the uploaded file as it is, so that it is read where all pictures are read."""

from typing import Any

import gradio as gr


def picture_input(**look: Any) -> gr.Image:
    """Return an image input whose value is the path of the upload, or None.

    gradio's own would open the file first, and answer a damaged one with a sentence that helps nobody. Not a subclass:
    gradio writes a stub file beside each.
    """
    image = gr.Image(type="filepath", image_mode=None, **look)
    open_and_check = image.preprocess
    image.preprocess = lambda payload: str(payload.path) if payload and payload.path else open_and_check(payload)
    return image
