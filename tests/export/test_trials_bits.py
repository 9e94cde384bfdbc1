"""What fewer bits cost in Dice: a run goes through the real export, and the row says what evaluation says."""

import csv
import tempfile

import pytest

from vlseg.deploy.annotations import read_split
from vlseg.deploy.errors import UserError
from vlseg.deploy.evaluate import evaluate
from vlseg.deploy.segmenter import Segmenter
from vlseg.export import trials_bits
from vlseg.export.bundle import export


@pytest.mark.slow
def test_a_row_says_what_evaluation_says(trained_run, drawn_data, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    trials_bits.main([str(tmp_path / "rows.csv"), str(trained_run), str(drawn_data), "int8"])
    with open(tmp_path / "rows.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert not list(scratch.iterdir())
    report = export(trained_run, tmp_path / "int8", precision="int8", calibrate=drawn_data, folds="none")
    samples = read_split(drawn_data, "test")
    with Segmenter.open(tmp_path / "int8", "onnxruntime", 1) as model:
        found = evaluate(model, samples, "p1", data="clinic", split="test", hd95=False)["mean"]["dice"]
    assert float(row["fewer_bits"]) == pytest.approx(found, abs=1e-5)
    some = sum(one["quantised"] for one in report["quantised"])
    assert row["groups"] == f"{some} of {len(report['quantised'])}" and some
    assert (row["precision"], row["data"], int(row["n"])) == ("int8", drawn_data.name, len(samples))
    assert row["certificate_passed"] == "True" and row["commit"]


def test_a_folder_that_is_no_run_is_refused(drawn_data, tmp_path):
    with pytest.raises(UserError, match="not a run"):
        trials_bits.dice_rows(tmp_path, drawn_data, ["int8"])
