"""What adapters contribute: the norm of their correction over the norm of what it corrects, for each token.

`vlseg explain` puts a second image part that tells it into a bundle; others do not know.
"""

from pathlib import Path

import numpy as np

from ..deploy.engines.ort import OnnxRuntime
from ..deploy.manifest import Manifest
from ..deploy.pixels import to_input
from ..deploy.wire import check_own_weights

FILE, OUTPUT = "adapter_share.onnx", "adapter_share"


def shares(folder: Path, manifest: Manifest, image: np.ndarray, threads: int | None = None) -> np.ndarray | None:
    """Return what each adapter of a bundle adds to each patch of a picture, float32 (adapters, g, g), 0 is nothing.

    None where the bundle does not tell. Always on the CPU: it is for looking at, not for speed.
    """
    if not (folder / FILE).is_file():
        return None
    given = {"pixel_values": to_input(image, manifest.image_size, manifest.mean, manifest.std)[None]}
    check_own_weights(folder / FILE)
    with OnnxRuntime(folder / FILE, threads) as part:
        (share,) = part.run(given)[OUTPUT]
    side = round(share.shape[1] ** 0.5)
    # the first token stands for the whole picture, and has no place in it
    return share[:, 1:].reshape(len(share), side, side)
