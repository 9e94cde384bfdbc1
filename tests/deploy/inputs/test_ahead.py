"""Reading ahead keeps order and errors, leaves no thread behind, and drops the past of a camera."""

import threading
import time

import pytest

from vlseg.deploy.inputs.ahead import ahead


def test_order_is_kept():
    assert list(ahead(range(100))) == list(range(100))
    assert list(ahead([])) == []


def test_an_error_comes_where_its_item_would_have():
    def items():
        yield from range(3)
        raise KeyError("three")

    seen = []
    with pytest.raises(KeyError, match="three"):
        for item in ahead(items()):
            seen.append(item)
    assert seen == [0, 1, 2]


def test_closing_ends_the_thread_of_an_endless_source():
    def endless():
        while True:
            yield 0

    before = threading.active_count()
    coming = ahead(endless())
    assert next(coming) == 0 and threading.active_count() == before + 1
    coming.close()
    assert threading.active_count() == before


def test_at_most_so_many_are_read_ahead():
    read = []

    def items():
        for i in range(50):
            read.append(i)
            yield i

    coming = ahead(items(), count=2)
    next(coming)
    time.sleep(0.3)
    assert len(read) <= 5
    coming.close()


def test_a_slow_reader_of_a_camera_sees_the_present():
    taken = threading.Event()

    def camera():
        yield 0
        taken.wait(5)
        yield from range(1, 100)

    coming = ahead(camera(), latest=True)
    assert next(coming) == 0
    taken.set()
    time.sleep(0.3)
    rest = list(coming)
    assert rest[-1] == 99 and len(rest) <= 2
