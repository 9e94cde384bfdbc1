"""How a kernel cuts its work: tile sizes, warps and stages, chosen by shape, or by a tuning that was measured here.

The defaults come from the resource report (`vlseg kernels check`): no spills, shared memory under 48 KiB.
`vlseg kernels bench --tune` measures the candidates on the GPU at hand and keeps the best in a JSON file for that
architecture; nothing is tuned at import or during training.
"""

import functools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from .forms import power_of_two


@dataclass(frozen=True)
class Tile:
    """Rows and columns of a tile, shares that the columns are split into (forward only), warps and pipeline stages."""

    rows: int
    block: int
    warps: int
    stages: int
    shares: int = 1


class Choice(NamedTuple):
    """A launch that asked for a tile: the kernel's name in `DEFAULTS`, its shape class, and its default."""

    kernel: str
    key: str
    default: Tile


_forced: list[tuple[str | None, Tile]] = []
_watching: list[list[Choice]] = []


@contextmanager
def forced(tile: Tile, kernel: str | None = None) -> Iterator[None]:
    """Use one tile for every launch inside, or for those of one kernel: for tuning and for tests at tiny sizes."""
    _forced.append((kernel, tile))
    try:
        yield
    finally:
        _forced.pop()


@contextmanager
def watched() -> Iterator[list[Choice]]:
    """Give the list of the choices that the launches inside ask for, each once."""
    _watching.append([])
    try:
        yield _watching[-1]
    finally:
        _watching.pop()


def shape_key(kernel: str, dtype: torch.dtype, rank: int, tokens: int) -> str:
    """Return the name of a shape class: rank rounded up to a power of two, tokens likewise."""
    return f"{kernel}/{str(dtype).removeprefix('torch.')}/{power_of_two(rank, 16)}/{power_of_two(tokens)}"


def tuned_file(arch: str) -> Path:
    """Return where the tuned tiles of an architecture (such as sm_90) are kept: $VLSEG_CACHE or ~/.cache/vlseg."""
    return Path(os.environ.get("VLSEG_CACHE", Path.home() / ".cache" / "vlseg")) / f"tiles-{arch}.json"


@functools.cache
def tuned_tiles(arch: str) -> dict[str, Tile]:
    """Return the tuned tiles of an architecture by shape key; empty where nothing was tuned."""
    path = tuned_file(arch)
    if not path.exists():
        return {}
    return {key: Tile(**tile) for key, tile in json.loads(path.read_text()).items()}


def keep_tuned(arch: str, tiles: dict[str, Tile]) -> None:
    """Add tuned tiles to those already kept."""
    path = tuned_file(arch)
    path.parent.mkdir(parents=True, exist_ok=True)
    merged = {key: asdict(tile) for key, tile in (tuned_tiles(arch) | tiles).items()}
    fresh = path.with_suffix(".fresh")
    fresh.write_text(json.dumps(merged, indent=1, sort_keys=True))
    fresh.replace(path)
    tuned_tiles.cache_clear()


@functools.cache
def architecture(device: torch.device) -> str:
    """Return the architecture of a CUDA device, such as "sm_90"; "cpu" for the interpreter's."""
    return "sm_{}{}".format(*torch.cuda.get_device_capability(device)) if device.type == "cuda" else "cpu"


def choose(kernel: str, device: torch.device, dtype: torch.dtype, rank: int, tokens: int, batch: int = 1) -> Tile:
    """Return the tile for a launch: the forced one, the tuned one, or the default."""
    default = DEFAULTS[kernel](dtype, power_of_two(rank, 16), tokens * batch)
    choice = Choice(kernel, shape_key(kernel, dtype, rank, tokens * batch), default)
    for asked in _watching:
        if choice not in asked:
            asked.append(choice)
    for name, tile in reversed(_forced):
        if name in (None, kernel):
            return tile
    return tuned_tiles(architecture(device)).get(choice.key, default)


def forward_tile(dtype: torch.dtype, rank: int, tokens: int) -> Tile:
    """Return the default tile of `bottleneck_forward`: rows x rank kept in registers, weight tiles in shared memory."""
    half = dtype.itemsize == 2
    rows = 64 if rank <= 64 and tokens > 4096 else 32 if rank <= 128 and tokens > 1024 else 16
    block = 64 if rank <= 64 else 32 if rank <= 256 else 16
    shares = 1 if tokens > 1024 else 4
    if half:
        return Tile(rows, block, warps=4 if rank <= 128 and rows < 64 else 8, stages=2, shares=shares)
    warps = 4 if rank <= 128 and rows < 32 else 8
    return Tile(rows, block // 2, warps, stages=1 if 128 < rank <= 256 else 2, shares=shares)


SHARED = ("bottleneck_forward", "closed_forward")
"""The kernels whose programs share out columns or rows."""


def candidates(kernel: str, default: Tile) -> list[Tile]:
    """Return the tiles worth timing around a kernel's default one: rows, warps, and shares where it has them."""
    found = {default}
    for rows in (16, 32, 64):
        for shares in (1, 4, 8) if kernel in SHARED else (default.shares,):
            for warps in (4, 8):
                found.add(Tile(rows, default.block, warps, default.stages, shares))
    return sorted(found, key=lambda tile: (tile.rows, tile.shares, tile.warps))


def backward_rows_tile(dtype: torch.dtype, rank: int, tokens: int) -> Tile:
    """Return the default tile of `bottleneck_backward_rows`."""
    tile = forward_tile(dtype, rank, tokens)
    widest = 32 if dtype.itemsize == 2 or rank <= 128 else 8
    return Tile(min(tile.rows, 32), min(tile.block, widest), tile.warps, stages=2)


def backward_columns_tile(dtype: torch.dtype, rank: int, tokens: int) -> Tile:
    """Return the default tile of `bottleneck_backward_columns`: two column x rank sums stay in registers."""
    if dtype.itemsize == 2:
        rows, block = (32, 32) if rank <= 64 else (32, 16) if rank <= 256 else (16, 16)
        return Tile(rows, block, warps=4 if rank <= 64 else 8, stages=2 if rank <= 256 else 1)
    return Tile(rows=16, block=16, warps=4 if 64 < rank <= 256 else 8, stages=1)


def closed_tile(dtype: torch.dtype, rank: int, tokens: int) -> Tile:
    """Return the default tile of `closed_forward`; shares split the rows of an image."""
    return Tile(rows=32, block=64, warps=8, stages=2, shares=8 if tokens > 1024 else 2)


def attend_tile(dtype: torch.dtype, head: int, tokens: int) -> Tile:
    """Return the default tile of the flash-style attention, forward and backward; `block` counts keys."""
    if head > 128:
        return Tile(16, 16, warps=8, stages=1)
    return Tile(32, 32, warps=4, stages=2) if dtype.itemsize == 2 else Tile(16, 16, warps=8, stages=2)


def pool_tile(dtype: torch.dtype, queries: int, tokens: int) -> Tile:
    """Return the default tile of the pass over the image: rows of one block of the softmax."""
    half, few = dtype.itemsize == 2, queries <= 16
    block = 64 if half else 32 if few else 16
    return Tile(rows=64, block=block, warps=4 if half and few else 8, stages=2)


DEFAULTS: dict[str, Callable[[torch.dtype, int, int], Tile]] = {
    "attend": attend_tile,
    "closed_forward": closed_tile,
    "pool": pool_tile,
    "bottleneck_forward": forward_tile,
    "bottleneck_backward_rows": backward_rows_tile,
    "bottleneck_backward_columns": backward_columns_tile,
}
