import threading
import time

import pytest

from vlseg.demo.job import Job
from vlseg.deploy.errors import UserError


def test_it_tells_how_far_it_is_and_then_has_the_result():
    def work(step):
        for i in range(4):
            step(i + 1, 4)
            time.sleep(0.15)
        return "made"

    job = Job(work)
    told = list(job)
    assert job.result == "made"
    assert told == sorted(told) and all(total in (1, 4) for _, total in told) and told[-1][0] >= 3


def test_who_leaves_early_stops_the_work():
    began, ended = threading.Event(), threading.Event()

    def work(step):
        began.set()
        try:
            for i in range(1000):
                step(i, 1000)
                time.sleep(0.02)
        finally:
            ended.set()

    for _ in Job(work):
        if began.is_set():
            break
    assert ended.wait(2)


def test_its_error_comes_out():
    def work(step):
        raise UserError("nothing to do")

    with pytest.raises(UserError, match="nothing to do"):
        list(Job(work))
