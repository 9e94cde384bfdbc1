import pytest

from vlseg.deploy.errors import UserError
from vlseg.deploy.stats import Ratio
from vlseg.export import choose
from vlseg.train.models.fold import down_sites


def test_an_unknown_way_names_the_known_ones(nano):
    with pytest.raises(UserError, match="measure, all, none"):
        choose.choose_down(nano, "some")


def test_all_and_none(nano):
    every, records = choose.choose_down(nano, "all")
    assert sorted(every) == sorted(down_sites(nano)) and all(record["measured"] is None for record in records)
    assert choose.choose_down(nano, "none")[0] == []


@pytest.mark.parametrize(("high", "folded"), [(0.99, True), (1.01, False)])
def test_only_a_whole_interval_below_one_folds(nano, monkeypatch, high, folded):
    seen = []
    monkeypatch.setattr(choose, "_measure", lambda geometry, rounds: seen.append(geometry) or Ratio(0.9, 0.8, high, 60))
    sites, records = choose.choose_down(nano)
    assert len(seen) == 2 and {geometry.rows for geometry in seen} == {16, 17}
    assert bool(sites) == folded and all(record["folded"] == folded for record in records)
    assert records[0]["measured"] == {"median": 0.9, "low": 0.8, "high": high, "pairs": 60}


def test_a_site_is_measured():
    ratio = choose._measure(choose.Geometry(16, 16, 2, "identity", 5), rounds=5)
    assert ratio.pairs == 5 and 0.05 < ratio.median < 20
