"""Engines by name: which there are, which this machine and this bundle can have, and how a bundle is opened with one.

A further engine is a file in `engines/` with a `KIND`, and one line in `ENGINES` below.
"""

import ctypes
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from .engines import cuda, openvino, ort, rtx, trt
from .engines.ort import INSTALL
from .engines.protocol import Arrays, Engine, Kind, Part
from .errors import EngineError
from .flow import PARTS
from .manifest import Manifest
from .wire import check_own_weights

AUTO = "auto"
# In the order in which `auto` prefers them.
ENGINES: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        trt.KIND,
        cuda.KIND,  # yardsticks at the end
        rtx.KIND,
        ort.KIND,
        trt.WITHOUT_GRAPH,
        cuda.GRAPH,
        openvino.KIND,
    )
}


def available_engines() -> list[str]:
    """Return the names of the engines that this machine can run, in the order in which `auto` prefers them."""
    return [name for name, kind in ENGINES.items() if not kind.missing()]


def choose_engine(name: str = AUTO, folder: Path | str | None = None, manifest: Manifest | None = None) -> str:
    """Return the engine's name; `auto` is the first that this machine has and that this bundle, if given, is fit for.

    Raises:
        EngineError: an unknown name (the known ones are named), or `auto` where there is none.
    """
    if name in ENGINES:
        return name
    if name != AUTO:
        raise EngineError(f"no engine {name!r}; known: {', '.join([AUTO, *ENGINES])}")
    for kind in ENGINES.values():
        fit = folder is None or manifest is None or not kind.unfit(Path(folder), manifest)
        if fit and not kind.by_name_only and not kind.missing():
            return kind.name
    raise EngineError(INSTALL)


def open_engines(
    folder: Path | str, manifest: Manifest, engine: str = AUTO, threads: int | None = None
) -> dict[str, Engine]:
    """Open every part of a bundle with one engine.

    Raises:
        EngineError: an unknown or absent engine, a part it cannot open, or one whose weights lie in other files.
    """
    kind = ENGINES[choose_engine(engine, folder, manifest)]
    wanted = [Part(Path(folder), manifest, part, threads) for part in PARTS if manifest.parts[part]]
    for part in wanted:
        check_own_weights(part.path)
    return dict(zip((part.name for part in wanted), _open_all(kind, wanted), strict=True))


def _open_all(kind: Kind, wanted: Sequence[Part]) -> list[Engine]:
    """Open each part, all at once where the engine allows that; what was opened is closed when another fails."""
    with ExitStack() as undo:

        def opened(part: Part) -> Engine:
            engine = kind.open(part)
            undo.callback(engine.close)
            return engine

        with ThreadPoolExecutor(len(wanted)) as pool:
            engines = list(pool.map(opened, wanted) if kind.at_once else map(opened, wanted))
        undo.pop_all()
    _give_back()
    return engines


def _give_back() -> None:
    """Let glibc return what opening has freed, which it keeps for each of the threads."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim:
        trim(0)


__all__ = ("AUTO", "ENGINES", "Arrays", "Engine", "available_engines", "choose_engine", "open_engines")
