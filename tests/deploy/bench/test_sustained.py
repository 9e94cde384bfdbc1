import pytest

from vlseg.deploy.bench import sustained
from vlseg.deploy.bench.plan import Plan, Subject, Task
from vlseg.deploy.bench.run import Extras, bench
from vlseg.deploy.bench.sustained import BUCKETS, flags_of, sustain
from vlseg.deploy.segmenter import Segmenter


def buckets(**series):
    plain = {"p50_ms": 10.0, "cpu_mhz": None, "gpu_mhz": None, "rss_mib": None}
    length = max(map(len, series.values()))
    return [{**plain, **{name: values[i] for name, values in series.items()}} for i in range(length)]


def test_what_is_steady_has_no_flag():
    assert flags_of(buckets(p50_ms=[10, 10.2, 9.9, 10.1] * 5, cpu_mhz=[2800, 2790] * 10, rss_mib=[300] * 20)) == []


@pytest.mark.parametrize(
    ("series", "says"),
    [
        ({"p50_ms": [10] * 15 + [12] * 5}, "1.20 times as long"),
        ({"cpu_mhz": [2800] * 10 + [1400] * 10}, "processor's clock dropped from 2800 to 1400"),
        ({"gpu_mhz": [1300] * 19 + [600]}, "GPU's clock dropped from 1300 to 600"),
        ({"rss_mib": [300, 300] + [400] * 18}, "memory grew from 300 to 400"),
    ],
)
def test_each_change_has_its_sentence(series, says):
    (flag,) = flags_of(buckets(**series))
    assert says in flag


def test_memory_of_the_first_calls_is_no_leak():
    assert flags_of(buckets(rss_mib=[100] + [300] * 19)) == []


def test_it_runs_for_as_long_as_it_is_told(toy_bundle, tmp_path, monkeypatch):
    counts = iter([5, 9])
    monkeypatch.setattr(sustained, "throttles", lambda root: next(counts))
    calls, seen = [], []
    with Segmenter.open(toy_bundle, threads=1) as segmenter:
        task = Task(lambda: calls.append("prepare"), lambda: calls.append("call"))
        found = sustain(Subject("toy", segmenter), task, 0.2, lambda *step: seen.append(step))
    assert (
        found["runs"] == calls.count("call") == calls.count("prepare") == sum(one["runs"] for one in found["buckets"])
    )
    assert len(found["buckets"]) == BUCKETS and seen[-1] == (BUCKETS, BUCKETS)
    assert "the processor was slowed for heat 4 times" in found["flags"]


def test_the_report_holds_every_subject(toy_bundle, fixed_bundle):
    extras = Extras(cold=False, seconds=0.1)
    report = bench([toy_bundle, fixed_bundle], plan=Plan(repeats=1, warmup=0), extras=extras)
    assert [one["bundle"] for one in report["sustained"]] == ["toy", "fixed"]
