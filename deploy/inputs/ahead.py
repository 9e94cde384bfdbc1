"""Reading ahead: the next file or frame is decoded while the model looks at the present one."""

from collections.abc import Generator, Iterable
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

Item = TypeVar("Item")
_WAIT = 0.1  # seconds after which a waiting thread looks whether it is still wanted


def ahead(items: Iterable[Item], count: int = 2, latest: bool = False) -> Generator[Item, None, None]:
    """Yield the items of an iterable that a thread of its own reads, at most `count` ahead.

    `latest` drops what nobody took in time, so that a slow reader sees the present and not the past: for a camera. An
    error of the iterable is raised where its item would have come. Closing the generator ends the thread.
    """
    queue: Queue[tuple[Any, BaseException | None, bool]] = Queue(1 if latest else count)
    stop = Event()
    worker = Thread(target=_fill, args=(items, queue, stop, latest), daemon=True)
    worker.start()
    try:
        while True:
            item, error, more = queue.get()
            if error:
                raise error
            if not more:
                return
            yield item
    finally:
        stop.set()
        worker.join()


def _fill(items: Iterable[Any], queue: Queue, stop: Event, latest: bool) -> None:
    try:
        for item in items:
            if latest:
                _drop(queue)
            if not _put(queue, (item, None, True), stop):
                return
    except Exception as error:
        _put(queue, (None, error, False), stop)
    else:
        _put(queue, (None, None, False), stop)


def _put(queue: Queue, entry: tuple[Any, BaseException | None, bool], stop: Event) -> bool:
    while not stop.is_set():
        try:
            queue.put(entry, timeout=_WAIT)
        except Full:
            continue
        return True
    return False


def _drop(queue: Queue) -> None:
    try:
        queue.get_nowait()
    except Empty:
        return
