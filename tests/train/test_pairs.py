import csv
import json
import sys

import numpy as np
import pytest

from vlseg.train import pairs


def test_the_interval_holds_the_difference_and_narrows():
    draw = np.random.default_rng(0)
    a = draw.normal(0.7, 0.1, 400)
    mean, low, high = pairs.bootstrap(a, a - 0.02 + draw.normal(0, 0.01, 400))
    assert low < 0.02 < high and low < mean < high and high - low < 0.005
    # unpaired, this difference would drown in the spread over images
    _, few_low, few_high = pairs.bootstrap(a[:10], a[:10] - 0.02 + draw.normal(0, 0.01, 10))
    assert few_high - few_low > high - low
    assert pairs.bootstrap([0.5, 0.6], [0.5, 0.6]) == (0.0, 0.0, 0.0)


def test_series_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="as many pairs"):
        pairs.bootstrap([0.1], [0.1, 0.2])


def test_two_runs_from_the_command_line(trained_run, drawn_data, tmp_path, monkeypatch, capsys):
    words = ["--data", str(drawn_data), "--prompt", "p1", "--prompt-b", "shuffled:p1", "--csv", str(tmp_path / "x.csv")]
    monkeypatch.setattr(sys, "argv", ["pairs", str(trained_run), str(trained_run), *words])
    pairs.main()
    row = json.loads(capsys.readouterr().out)
    assert row["n"] == 5 and row["low"] <= row["difference"] <= row["high"] and "seed=41" in row["a"]
    with open(tmp_path / "x.csv", newline="") as file:
        (written,) = csv.DictReader(file)
    assert written["prompt_b"] == "shuffled:p1" and float(written["difference"]) == row["difference"]
    assert pairs.compare(trained_run, trained_run, drawn_data, "p1")["difference"] == 0
