"""Long work beside the page: it tells how far it is, and ends early when nobody waits for it any more."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Generic, TypeVar

Made = TypeVar("Made")
Progress = Callable[[int, int], None]


class Stopped(Exception):
    """Raised inside the work when it is to end."""


class Job(Generic[Made]):
    """Some work in a thread of its own.

    Iterating tells (done, total) now and then; when it ends, `result` is there. Leaving the iteration early, as a page
    does whose user pressed cancel, stops the work at its next step.
    """

    def __init__(self, work: Callable[[Progress], Made]) -> None:
        """Take work that calls what it is given with (done, total) after each step."""
        self._work = work
        self._stop = Event()
        self._at = (0, 1)
        self.result: Made

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Start the work and yield how far it is, a few times a second."""
        with ThreadPoolExecutor(1, "vlseg-job") as pool:
            try:
                done = pool.submit(self._work, self._step)
                while not done.done():
                    yield self._at
                    Event().wait(0.2)
                self.result = done.result()
            finally:
                self._stop.set()

    def _step(self, done: int, total: int) -> None:
        self._at = (done, total)
        if self._stop.is_set():
            raise Stopped
