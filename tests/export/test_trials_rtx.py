"""Engines for RTX cards of models that nobody trained: what the rows hold, and that nothing is left behind."""

import csv
import tempfile

import pytest

from vlseg.deploy import rtx
from vlseg.deploy.errors import UserError
from vlseg.export import trials_rtx

needs_rtx = pytest.mark.skipif(rtx.missing() is not None, reason=rtx.INSTALL)


@needs_rtx
@pytest.mark.parametrize(
    ("precision", "opset", "cards"),
    [
        ("fp8", 20, "89 120"),
        pytest.param("int8-fp16", 20, "75 80 86 89 120", marks=pytest.mark.slow),
        pytest.param("int8", 18, "80 86 89 120", marks=pytest.mark.slow),
    ],
)
def test_eight_bits_are_in_every_linear_of_the_encoders(precision, opset, cards, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rows = trials_rtx.engines("clipseg/dense-vl", "nano", precision, opset)
    assert [row["part"] for row in rows] == ["image", "text", "decoder"]
    # six linear layers in each of the nano encoders' layers; the decoder keeps its precision
    counts = [row["eight_bit_linears"] for row in rows]
    assert counts[0] > 0 and counts[0] % 6 == 0 and counts[1] % 6 == 0 and counts[2] == 0
    assert {row["architectures"] for row in rows} == {cards} and {row["opset"] for row in rows} == {opset}
    assert not list(tmp_path.iterdir())


@pytest.fixture
def rows(monkeypatch):
    """Rows as a build would give, and what was asked for."""
    asked = []
    monkeypatch.setattr(trials_rtx, "engines", lambda *words: asked.append(words) or [{"part": "image"}])
    return asked


def test_each_precision_is_a_row_with_its_circumstances(rows, tmp_path):
    trials_rtx.main([str(tmp_path / "rtx.csv"), "cris/coop", "nano", "fp16", "fp8", "--opset", "18"])
    assert rows == [("cris/coop", "nano", "fp16", 18), ("cris/coop", "nano", "fp8", 18)]
    with open(tmp_path / "rtx.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 2 and all(row["part"] == "image" and row["date"] for row in found)


def test_what_is_none_is_refused_in_one_sentence(capsys):
    with pytest.raises(UserError, match="no method 'clipseg/none'"):
        trials_rtx.engines("clipseg/none", "nano", "fp16")
    with pytest.raises(SystemExit):
        trials_rtx.main(["rtx.csv", "clipseg/dense-vl", "nano", "fp4"])
    assert "invalid choice: 'fp4'" in capsys.readouterr().err
