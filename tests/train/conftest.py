"""What the training tests share: drawn images in the community's layout, and recipes that take milliseconds."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlseg.train.recipe import Recipe

PROMPTS = {
    "p0": "",
    "p1": "a bright square",
    "p2": ["one square on the left", "a square at the top", "the only square"],
    "p3": "one bright square, small",
}


def draw_shapes(folder: Path, counts: dict[str, int], *, empty: bool = False) -> Path:
    """Draw bright rectangles on noise, 56 x 48 pixels, `counts` of them for each split."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks", "anns"):
        (folder / part).mkdir(parents=True)
    for split, count in counts.items():
        entries = []
        for i in range(count):
            image, mask = rng.integers(0, 90, (48, 56, 3), dtype=np.uint8), np.zeros((48, 56), bool)
            (y, x), (h, w) = rng.integers(4, 20, 2), rng.integers(10, 22, 2)
            mask[y : y + h, x : x + w] = not empty
            image[mask] += 120
            name = f"{split}{i}.png"
            Image.fromarray(image).save(folder / "images" / name)
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / name)
            entries.append({"img_name": name, "mask_name": name, "prompts": PROMPTS})
        (folder / "anns" / f"{split}.json").write_text(json.dumps(entries))
    return folder


@pytest.fixture(scope="session")
def shapes(tmp_path_factory) -> Path:
    """A data folder of 10 training, 4 validation and 3 test images."""
    return draw_shapes(tmp_path_factory.mktemp("shapes") / "shapes", {"train": 10, "val": 4, "test": 3})


@pytest.fixture
def pair(shapes, tmp_path) -> list[Path]:
    """Two data folders, the second of 5 training, 2 validation and 2 test images."""
    return [shapes, draw_shapes(tmp_path / "dots", {"train": 5, "val": 2, "test": 2})]


@pytest.fixture
def nano() -> Recipe:
    """A recipe of three epochs on the test-only size."""
    return Recipe(method="clipseg/dense-vl", size="nano", seed=0, batch_size=4, max_epochs=3, min_epochs=1)
