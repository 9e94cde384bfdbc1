"""How much faster an epoch is once what is frozen is kept, as ratios of interleaved steps in rows of a CSV.

`python -m vlseg.train.cache_speed docs/measured/cache.csv` measures the published size with random weights: a training
step is forward, loss, backward and update, and a first epoch, which fills the cache, is not counted.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ..deploy.rows import append_row
from ..deploy.stats import paired_ratio
from .cache import CachedModel, MemoryStore, Store
from .data import Batch
from .loss import SegmentationLoss
from .models.methods import build_model
from .models.promptable import Promptable

METHODS = ("clipseg/decoder", "clipseg/shallow-vlc")
GOAL = 5.0
LIMIT = 2**30


def measure(
    csv_path: Path, methods: Sequence[str] = METHODS, size: str = "base", images: int = 2, rounds: int = 8
) -> None:
    """Append one row per method: time of a step of `images` images that encodes them, over one that remembers them."""
    for method in methods:
        model = build_model(method, size, weights="random")
        batch = random_batch(model, images)
        encodes, remembers = (_step(model, batch, store) for store in (None, MemoryStore(LIMIT)))
        pairs = [(_seconds(encodes), _seconds(remembers)) for _ in range(rounds + 1)][1:]
        slow, fast = zip(*pairs, strict=True)
        row = _row(method, size, images, slow, fast)
        print(*row.values(), flush=True)
        append_row(csv_path, row)


def random_batch(model: Promptable, images: int) -> Batch:
    """Random images and masks at the model's own size, and a sentence each."""
    generator, side = torch.Generator().manual_seed(0), model.image_size
    pixels = torch.randn(images, 3, side, side, generator=generator)
    masks = (torch.rand(images, 1, side, side, generator=generator) > 0.8).float()
    words = [f"one small spot, number {i}" for i in range(images)]
    ids, attention = (torch.from_numpy(array) for array in model.tokenizer(words))
    return Batch(pixels, masks, ids, attention, words, [f"image {i}" for i in range(images)], words)


def _step(model: Promptable, batch: Batch, store: Store | None) -> Callable[[], None]:
    forward, loss = CachedModel(model, store, "32", print), SegmentationLoss()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        loss(forward(batch), batch.mask).backward()
        optimizer.step()

    return step


def _seconds(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _row(method: str, size: str, images: int, slow: Sequence[float], fast: Sequence[float]) -> dict[str, Any]:
    ratio = paired_ratio(slow, fast)
    figures = {"ratio": round(ratio.median, 2), "low": round(ratio.low, 2), "high": round(ratio.high, 2)}
    kind = {"measurement": "training step, encoded over remembered", "method": method, "size": size, "images": images}
    return {**kind, **figures, "pairs": ratio.pairs, "goal": GOAL, "met": ratio.median >= GOAL}


if __name__ == "__main__":
    measure(Path(sys.argv[1]))
