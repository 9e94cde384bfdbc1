"""Where the words of a report look: LGA's attention from text to image, where a bundle tells it (`vlseg explain`)."""

from pathlib import Path

import numpy as np

from ..deploy.engines.ort import OnnxRuntime
from ..deploy.segmenter import Segmenter

FILE, OUTPUT = "text_attention.onnx", "text_attention"


def attention(
    folder: Path, segmenter: Segmenter, image: np.ndarray, prompt: str, threads: int | None = None
) -> np.ndarray | None:
    """Return how often each patch of a picture is looked at, float32 (modules, g, g), 1 being an even gaze.

    Of several words it is their mean, those that fill up a short sentence left out. None where the bundle does not
    tell. Always on the CPU: it is for looking at, not for speed.
    """
    if not (folder / FILE).is_file():
        return None
    given = segmenter.inputs_of_parts(image, prompt)["image"]
    with OnnxRuntime(folder / FILE, threads) as part:
        (gaze,) = part.run(given)[OUTPUT]
    real = given["text_mask"][0] > 0.5 if "text_mask" in given else slice(None)
    modules, _, tokens = gaze.shape
    side = round(tokens**0.5)
    return gaze[:, real].mean(axis=1).reshape(modules, side, side) * tokens
