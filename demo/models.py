"""The bundles a page offers: one is open at a time, and answers one user at a time, so that times mean something."""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import numpy as np

from ..deploy.engine import AUTO
from ..deploy.errors import UserError
from ..deploy.manifest import Manifest
from ..deploy.segmenter import Result, Segmenter


class Models:
    """Bundles by name; safe to call from several threads.

    Attributes:
        manifests: what each bundle says of itself, by name, in the order given.
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
        self._folders = _by_name(bundles)
        self.manifests = {name: Manifest.load(folder) for name, folder in self._folders.items()}
        self._engine, self._threads = engine, threads
        self._lock = Lock()
        self._name = self.names[0]
        self._open = self._segmenter(self._name)

    @property
    def names(self) -> list[str]:
        """Names of the bundles, the default first."""
        return list(self._folders)

    @property
    def engine(self) -> str:
        """Name of the engine that runs them."""
        return self._open.engine

    def run(self, name: str, image: np.ndarray, prompt: str) -> Result:
        """Ask a bundle about a picture, uint8 (H, W, 3); another one that is open is closed first.

        Raises:
            UserError: an unknown bundle, or what `Segmenter.run` raises.
        """
        if name not in self._folders:
            raise UserError(f"no bundle {name!r} on this page; it has {', '.join(self.names)}")
        with self._lock:
            if name != self._name:
                fresh = self._segmenter(name)
                self._open.close()
                self._open, self._name = fresh, name
            return self._open.run(image, prompt)

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            self._open.close()

    def _segmenter(self, name: str) -> Segmenter:
        return Segmenter.open(self._folders[name], self._engine, self._threads)


def _by_name(bundles: Sequence[Path]) -> dict[str, Path]:
    """Name bundles by their folder, and by its parent too where two folders are called alike."""
    plain = [bundle.resolve().name for bundle in bundles]
    full = [f"{path.parent.name}/{path.name}" for path in map(Path.resolve, bundles)]
    names = [long if plain.count(short) > 1 else short for short, long in zip(plain, full, strict=True)]
    if len(set(names)) < len(names):
        raise UserError(f"two bundles are called {max(names, key=names.count)}: rename one, or name it once")
    return dict(zip(names, bundles, strict=True))
