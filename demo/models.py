"""The bundles a page offers: one is open at a time, and answers one user at a time, so that times mean something."""

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np

from ..deploy.answers import Result
from ..deploy.engine import AUTO
from ..deploy.errors import UserError
from ..deploy.manifest import Manifest
from ..deploy.segmenter import Segmenter
from .live import Live

Made = TypeVar("Made")


class Models:
    """Bundles by name; safe to call from several threads.

    Attributes:
        folders: where each bundle is, by name, in the order given.
        manifests: what each bundle says of itself, by name.
        live: how long answers have taken since the page began.
    """

    def __init__(self, bundles: Sequence[Path], engine: str = AUTO, threads: int | None = None):
        """Check every bundle and open the first.

        Raises:
            BundleError: a bundle is damaged, foreign or of another schema.
            EngineError: the engine is unknown, absent or cannot open the first bundle.
        """
        if missing := [bundle for bundle in bundles if not bundle.is_dir()]:
            raise UserError(
                f"there is no bundle {missing[0]}: make one with `vlseg quickstart` or `vlseg export RUN BUNDLE`"
            )
        self.folders = _by_name(bundles)
        self.manifests = {name: Manifest.load(folder) for name, folder in self.folders.items()}
        self.live = Live()
        self._asked_engine, self.threads = engine, threads
        self._lock = Lock()
        self._name = self.names[0]
        self._open = self._segmenter(self._name)
        self.engine = self._open.engine

    @property
    def names(self) -> list[str]:
        """Names of the bundles, the default first."""
        return list(self.folders)

    def run(self, name: str, image: np.ndarray, prompt: str) -> Result:
        """Ask a bundle about a picture, uint8 (H, W, 3); another one that is open is closed first.

        Raises:
            UserError: an unknown bundle, or what `Segmenter.run` raises.
        """
        return self.using(name, lambda segmenter: self.told(name, segmenter.run(image, prompt)))

    def run_all(self, name: str, image: np.ndarray, prompts: Sequence[str]) -> list[Result]:
        """Ask a bundle several things about a picture that it has forgotten, so that the first answer pays for it."""

        def ask(segmenter: Segmenter) -> list[Result]:
            segmenter.forget()
            return [self.told(name, segmenter.run(image, prompt)) for prompt in prompts]

        return self.using(name, ask)

    def using(self, name: str, work: Callable[[Segmenter], Made]) -> Made:
        """Return what `work` makes with a bundle, which nobody else uses meanwhile."""
        if name not in self.folders:
            raise UserError(f"no bundle {name!r} on this page; it has {', '.join(self.names)}")
        with self._lock:
            if name != self._name:
                # the new one first, so that one that does not open leaves the page as it was
                fresh = self._segmenter(name)
                self._open.close()
                self._open, self._name = fresh, name
            return work(self._open)

    def told(self, name: str, result: Result) -> Result:
        """Return a result, its timings noted down."""
        self.live.add(name, result.timings)
        return result

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            self._open.close()

    def _segmenter(self, name: str) -> Segmenter:
        return Segmenter.open(self.folders[name], self._asked_engine, self.threads)


def _by_name(bundles: Sequence[Path]) -> dict[str, Path]:
    """Name bundles by their folder, and by its parent too where two folders are called alike."""
    plain = [bundle.resolve().name for bundle in bundles]
    full = [f"{path.parent.name}/{path.name}" for path in map(Path.resolve, bundles)]
    names = [long if plain.count(short) > 1 else short for short, long in zip(plain, full, strict=True)]
    if len(set(names)) < len(names):
        raise UserError(f"two bundles are called {max(names, key=names.count)}: rename one, or name it once")
    return dict(zip(names, bundles, strict=True))
