"""TensorRT's timings of its tactics, kept beside the engines: the next build of the same device takes seconds."""

from pathlib import Path
from typing import Any

from ..files import atomic_write
from .cuda import Device
from .plans import FOLDER


def path_of(folder: Path, device: Device, version: str) -> Path:
    """Return where a device's timings for one version of TensorRT are kept."""
    return folder / FOLDER / f"timing-{device.slug}-{version}.cache"


def attach(config: Any, path: Path) -> None:
    """Give the configuration what was measured before; timings that it refuses are dropped for an empty cache."""
    known = path.read_bytes() if path.is_file() else b""
    if not config.set_timing_cache(config.create_timing_cache(known), False) and known:
        config.set_timing_cache(config.create_timing_cache(b""), False)


def keep(config: Any, path: Path) -> None:
    """Write what was measured, old and new."""
    cache = config.get_timing_cache()
    if cache is not None:
        path.parent.mkdir(exist_ok=True)
        atomic_write(path, bytes(cache.serialize()))
