import csv

from vlseg.train import cache_speed


def test_a_row_says_how_much_faster_a_remembered_step_is(tmp_path, capsys):
    cache_speed.measure(tmp_path / "rows.csv", ("clipseg/decoder",), "nano", images=3, rounds=4)
    with open(tmp_path / "rows.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["method"], row["size"], row["pairs"]) == ("clipseg/decoder", "nano", "4")
    assert 0 < float(row["low"]) <= float(row["ratio"]) <= float(row["high"])
    assert row["met"] == str(float(row["ratio"]) >= cache_speed.GOAL)
    assert "clipseg/decoder" in capsys.readouterr().out
