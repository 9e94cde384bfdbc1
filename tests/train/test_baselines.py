import csv

import pytest

from vlseg.deploy.errors import UserError
from vlseg.train.baselines import CONTENDERS, evidence_rows


def test_every_contender_leaves_its_rows(shapes, tmp_path):
    rows = evidence_rows(
        [shapes],
        tmp_path / "rows.csv",
        tmp_path / "runs",
        prompts=("p0", "p1"),
        size="nano",
        seed=0,
        minutes=None,
        overrides=["max_epochs=1", "min_epochs=1"],
        say=lambda line: None,
    )
    written = list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))
    assert [row["method"] for row in written[::2]] == list(CONTENDERS)
    assert len(written) == len(rows) == 2 * len(CONTENDERS)
    by_name = {row["method"]: row for row in written if row["prompt"] == "p1"}
    assert float(by_name["otsu"]["dice"]) > 0.95
    assert int(by_name["clipseg/decoder"]["trained_parameters"]) > 0 == int(by_name["clipseg/frozen"]["epochs"] or 0)
    assert all(0 <= float(row["dice"]) <= 1 and row["date"] and row["n"] == "3" for row in written)
    assert by_name["clipseg/dense-vl"]["weights_hash"] == by_name["clipseg/frozen"]["weights_hash"] != ""


def test_wrong_names_stop_before_training(shapes, tmp_path):
    with pytest.raises(UserError, match="known: clipseg/frozen"):
        evidence_rows([shapes], tmp_path / "rows.csv", tmp_path, contenders=["unett"])
    with pytest.raises(UserError, match="no prompt key 'p9'"):
        evidence_rows([shapes], tmp_path / "rows.csv", tmp_path, prompts=["p9"], contenders=["unet"])
    assert not any(tmp_path.iterdir())
