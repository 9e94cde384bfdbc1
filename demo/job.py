"""Long work beside the page: it tells how far it is, and ends early when nobody waits for it any more."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from threading import Event, Thread
from typing import Generic, TypeVar

Made = TypeVar("Made")
Progress = Callable[[int, int], None]


class Stopped(Exception):
    """Raised inside the work when it is to end."""


class Job(Generic[Made]):
    """Some work in a thread of its own.

    Iterating tells (done, total) now and then; when it ends, `result` is there. Leaving the iteration early, as a page
    does whose user pressed cancel, stops the work at its next step, and nobody waits for that.
    """

    def __init__(self, work: Callable[[Progress], Made]) -> None:
        """Take work that calls what it is given with (done, total) after each step."""
        self._work = work
        self._stop = Event()
        self._at = (0, 1)
        self._made: Future[Made] = Future()

    @property
    def result(self) -> Made:
        """What the work made; its error is raised here."""
        return self._made.result()

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Start the work and yield how far it is, a few times a second."""
        Thread(target=self._run, name="vlseg-job", daemon=True).start()
        ended = Event()
        self._made.add_done_callback(lambda made: ended.set())
        try:
            while not ended.wait(0.2):
                yield self._at
        finally:
            self._stop.set()
        self._made.result()

    def _run(self) -> None:
        try:
            self._made.set_result(self._work(self._step))
        except Exception as error:
            self._made.set_exception(error)

    def _step(self, done: int, total: int) -> None:
        self._at = (done, total)
        if self._stop.is_set():
            raise Stopped
