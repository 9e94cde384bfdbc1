"""What every engine is: something that runs one part of a model, and a description of how to get one."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np

from ..manifest import Manifest

Arrays = dict[str, np.ndarray]
Self = TypeVar("Self", bound="Engine")


class Engine(Protocol):
    """Runs one part of a model; safe to call from several threads; a context manager that closes it.

    Attributes:
        name: the name under which it was chosen, for tables.
        swaps: does it take weights that a file lets be replaced as further inputs of a run?
    """

    name: str
    swaps: bool = False

    def run(self, inputs: Arrays) -> Arrays:
        """Return every output by name for every input by name."""
        ...

    def close(self) -> None:
        """Give back what it holds; running it afterwards is an error."""
        ...

    def __enter__(self: Self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


@runtime_checkable
class Splits(Protocol):
    """An engine that also tells where the time of a run goes, as trtexec does."""

    def run_split(self, inputs: Arrays) -> tuple[Arrays, dict[str, float]]:
        """Return what `run` does, and the milliseconds of `h2d`, `enqueue`, `compute` and `d2h`, those that it knows.

        `h2d` and `d2h` are the copies to and from the device, `enqueue` the host's time to hand the work over,
        `compute` from there to its end.
        """
        ...


@dataclass(frozen=True)
class Part:
    """What an opener is given: one part of a bundle.

    Attributes:
        folder: the bundle.
        manifest: its description, read and checked.
        name: `image`, `text` or `decoder`.
        threads: within an operator on a CPU; None is the engine's choice.
    """

    folder: Path
    manifest: Manifest
    name: str
    threads: int | None = None

    @property
    def path(self) -> Path:
        """The part's ONNX file."""
        return self.folder / str(self.manifest.parts[self.name])


def _fits_all(folder: Path, manifest: Manifest) -> str | None:
    """Any bundle will do."""
    return None


@dataclass(frozen=True)
class Kind:
    """One kind of engine: how to open a part with it, and why it cannot be had.

    Attributes:
        name: what `--engine` takes.
        open: opens one part; EngineError where it cannot.
        missing: what this machine lacks, as a sentence with the way out, or None; fast, and imports nothing heavy.
        unfit: what this bundle lacks (engines that were not built), or None.
        at_once: may several threads open a part each at the same time?
        by_name_only: never chosen by `auto`: a yardstick, or a way that is not always the better one.
    """

    name: str
    open: Callable[[Part], Engine]
    missing: Callable[[], str | None]
    unfit: Callable[[Path, Manifest], str | None] = _fits_all
    at_once: bool = False
    by_name_only: bool = False
