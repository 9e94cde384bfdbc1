import pytest

from vlseg.deploy.bench import rounds
from vlseg.deploy.bench.plan import Plan, Task
from vlseg.deploy.bench.rounds import interleave, steady


class Clock:
    """A clock that only what is timed moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1e-6
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(rounds, "perf_counter", made)
    return made


def test_rounds_are_interleaved_in_changing_order():
    log = []
    tasks = [Task(lambda: None, lambda i=i: log.append(i)) for i in range(3)]
    series = interleave(tasks, Plan(repeats=20, warmup=2, most=2))
    assert [len(one.times) for one in series] == [20, 20, 20]
    rounds = [tuple(log[i : i + 3]) for i in range(0, 66, 3)]
    assert all(sorted(one) == [0, 1, 2] for one in rounds) and len(set(rounds)) > 3


def test_preparation_is_not_timed(clock):
    def prepare():
        clock.now += 1

    (series,) = interleave([Task(prepare, lambda: None)], Plan(repeats=3, warmup=0))
    assert max(series.times) < 1


def slowing(clock, seconds):
    """A task whose calls take `seconds`, one after the other, then the last for ever."""
    left = list(seconds)

    def call():
        clock.now += left.pop(0) if len(left) > 1 else left[0]

    return Task(lambda: None, call)


def test_the_warm_up_goes_on_until_times_are_steady(clock):
    task = slowing(clock, [1.0, 0.5, 0.4, 0.3, 0.2, 0.1])
    (series,) = interleave([task], Plan(repeats=3, warmup=2, most=50))
    assert series.steady and len(series.warming) == 9  # 0.1 fills two windows of two
    assert series.times == pytest.approx([100] * 3, rel=1e-3)


def test_a_task_that_never_settles_is_timed_and_said_to_be_unsteady(clock):
    task = slowing(clock, [1.2**i for i in range(60)])
    (series,) = interleave([task], Plan(repeats=1, warmup=2, most=6))
    assert series.steady is False and len(series.warming) == 6


def test_all_wait_for_the_slowest_to_settle(clock):
    tasks = [slowing(clock, [0.1]), slowing(clock, [1.0, 0.5, 0.1])]
    fast, slow = interleave(tasks, Plan(repeats=1, warmup=1, most=50))
    assert fast.steady and slow.steady and len(fast.warming) == len(slow.warming) == 4


def test_no_warm_up_is_no_warm_up(clock):
    (series,) = interleave([slowing(clock, [1.0, 0.1])], Plan(repeats=2, warmup=0))
    assert series.steady is None and series.warming == [] and series.times == pytest.approx([1000, 100], rel=1e-3)


@pytest.mark.parametrize(
    ("times", "window", "expected"),
    [([1, 1], 1, True), ([1, 1.04], 1, True), ([1, 1.1], 1, False), ([1], 1, False), ([9, 1, 1, 1, 1], 2, True)],
)
def test_steady(times, window, expected):
    assert steady(times, window) is expected
