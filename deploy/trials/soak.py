"""A thousand images in a row: does the memory stay where it was?

`python -m vlseg.deploy.trials.soak CSV BUNDLE --images 1000`: pictures of many sizes are drawn, written as JPEG and
segmented as `vlseg segment` does, file by file. The first tenth warms up; then resident memory is read after each.
"""

import tempfile
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..inputs.files import read_any
from ..question import Question
from ..segmenter import Segmenter
from .figure import Figure, write

FILES = 100
PAGE = 4096


def draw(folder: Path, count: int = FILES, seed: int = 0) -> list[Path]:
    """Write pictures of 200 to 700 pixels a side and return their paths."""
    rng, paths = np.random.default_rng(seed), []
    for i in range(count):
        height, width = (int(side) for side in rng.integers(200, 700, 2))
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        paths.append(folder / f"{i:03}.jpg")
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def resident_mib() -> float:
    """Return the resident memory of this process, MiB; Linux alone tells."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20


def soak(segmenter: Segmenter, paths: Sequence[Path], images: int, prompts: Sequence[str]) -> list[float]:
    """Return resident memory in MiB after each image, the warm-up of a tenth left out; prompts take turns."""
    memory = []
    for i in range(images):
        Question([prompts[i % len(prompts)]]).ask(segmenter, read_any(paths[i % len(paths)]).image)
        if i >= images // 10:
            memory.append(resident_mib())
    return memory


def growth(memory: Sequence[float]) -> float:
    """Return by how much the last tenth lies above the first, as a share of it."""
    tenth = max(1, len(memory) // 10)
    return float(np.mean(memory[-tenth:]) / np.mean(memory[:tenth]) - 1)


def main() -> None:
    """Measure and append the rows."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("csv", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--threads", type=int)
    asked = parser.parse_args()
    prompts = [f"{word} spot" for word in ("red", "green", "small", "large", "round")]
    with tempfile.TemporaryDirectory() as scratch, Segmenter.open(asked.bundle, threads=asked.threads) as segmenter:
        memory = soak(segmenter, draw(Path(scratch)), asked.images, prompts)
        about: dict[str, Any] = {
            "trial": "images in a row",
            "bundle": f"{segmenter.manifest.name} {segmenter.manifest.precision}",
            "engine": segmenter.engine,
            "data": f"{FILES} drawn JPEGs of 200 to 700 pixels a side",
            "n": asked.images,
        }
        last, first = "memory of the last tenth", "of the first, less 1"
        write(
            asked.csv,
            [
                Figure(arm=last, against=first, value=growth(memory), unit="share", goal="within 0.02", **about),
                Figure(arm="highest resident memory", against="", value=max(memory), unit="MiB", **about),
            ],
        )


if __name__ == "__main__":
    main()
