import numpy as np

from vlseg.demo.live import KEPT, Live
from vlseg.deploy.answers import Timings


def test_percentiles_are_of_whole_answers_and_of_stages_that_ran():
    live, rng = Live(), np.random.default_rng(0)
    times = rng.random(25) * 10
    for i, ms in enumerate(times):
        live.add("a", Timings(image=ms if i % 2 else 0.0, decoder=2.0))
    whole = np.where(np.arange(25) % 2, times, 0) + 2
    assert live.totals("a")["p50_ms"] == np.percentile(whole, 50)
    assert live.totals("a")["p90_ms"] == np.percentile(whole, 90)
    assert live.stages("a")["image"]["p50_ms"] == np.percentile(times[1::2], 50)
    assert set(live.stages("a")) == {"image", "decoder"}


def test_it_keeps_the_last_and_knows_nothing_of_strangers():
    live = Live()
    for i in range(KEPT + 5):
        live.add("a", Timings(image=float(i >= 5)))
    assert live.count("a") == KEPT and live.totals("a")["mean_ms"] == 1.0
    assert live.count("b") == 0 and live.totals("b") == {} and live.stages("b") == {}
