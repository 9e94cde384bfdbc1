import time

import pytest

from vlseg.deploy.engine import available_engines
from vlseg.export.tax import Setting, _rows, first_prompt, second_prompt
from vlseg.export.timing import interleave


def test_every_arm_runs_once_a_round_in_changing_order():
    seen = []
    times = interleave({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, rounds=20, warmup=2)
    assert {clock: {name: len(series) for name, series in arms.items()} for clock, arms in times.items()} == {
        "wall": {"a": 20, "b": 20},
        "cpu": {"a": 20, "b": 20},
    }
    rounds = [tuple(seen[i : i + 2]) for i in range(0, len(seen), 2)]
    assert len(rounds) == 22 and set(rounds) == {("a", "b"), ("b", "a")}


def test_waiting_counts_on_the_wall_alone():
    times = interleave({"sleep": lambda: time.sleep(0.02)}, rounds=3, warmup=0)
    assert min(times["wall"]["sleep"]) > 0.019 and max(times["cpu"]["sleep"]) < 0.015


def test_a_row_holds_ratio_interval_and_goal():
    times = {"wall": {"adapted": [1.1] * 5, "frozen": [1.0] * 5}}
    (row,) = _rows(Setting(), "adapter tax", "adapted", "frozen", times, 1.05)
    assert (row["ratio"], row["low"], row["high"], row["pairs"], row["met"]) == (1.1, 1.1, 1.1, 5, False)
    assert not [name for name in row if name.endswith("_ms")]


def test_the_thread_clock_is_not_asked_where_threads_share_the_work():
    times = {clock: {"adapted": [1.1] * 5, "frozen": [1.0] * 5} for clock in ("wall", "cpu")}
    (row,) = _rows(Setting(threads=2), "adapter tax", "adapted", "frozen", times, 1.05)
    assert row["clock"] == "wall" and row["threads"] == 2


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore")
def test_every_row_can_be_measured(tmp_path):
    from vlseg.export.tax import Bench

    bench = Bench(Setting(size="nano", folds="none", rounds=3), tmp_path)
    rows = [*first_prompt(bench), *second_prompt(bench)]
    arms = 4 if "openvino" in available_engines() else 3
    assert len(rows) == 2 * (arms + 2) and len({frozenset(row) for row in rows}) == 1
