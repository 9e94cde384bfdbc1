"""What the rows of other forms of a bundle hold."""

import csv

import pytest

from vlseg.deploy import rtx
from vlseg.deploy.manifest import Manifest
from vlseg.export import measure


@pytest.mark.skipif(rtx.missing() is not None, reason=rtx.INSTALL)
def test_a_row_for_each_engine(exported):
    folder = exported[1]
    rows = measure.rtx_rows(folder, Manifest.load(folder))
    assert [row["part"] for row in rows] == ["image", "text", "decoder"]
    for row in rows:
        assert row["plan_bytes"] > 1000 and row["seconds"] > 0 and row["left_out"] == "75"
        assert row["opset"] == 20 and row["eight_bit_linears"] == 0
        assert (
            row["architectures"] == "80 86 89 120"
            and row["onnx_bytes"] == (folder / f"{row['part']}.onnx").stat().st_size
        )


def test_eight_bits_by_float_on_both_stages_and_clocks(exported):
    folder = exported[1]
    rows = measure.int8_rows(folder, Manifest.load(folder), rounds=3)
    assert {(row["stage"], row["clock"]) for row in rows} == {
        (stage, clock) for stage in ("image part", "image to logits") for clock in ("wall", "cpu")
    }
    assert all(0 < row["low"] <= row["ratio"] <= row["high"] and row["linears"] > 0 for row in rows)


def test_a_swap_moves_the_adapters_and_nothing_else(nano, exported):
    folder = exported[1]
    rows = measure.swap_rows(folder, Manifest.load(folder), rounds=3)
    adapters = [p for name, p in nano.named_parameters() if ".vision_model." in name and ".graft." in name]
    # fold 1 took the down-projections of the attention sites, so there are fewer here
    assert 0 < rows[0]["bytes"] <= 4 * sum(p.numel() for p in adapters)
    assert rows[0]["swap_ms"] > 0 and rows[0]["reopen_ms"] > 0


def test_main_appends_rows_with_their_circumstances(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "ROUNDS", 3)
    monkeypatch.setitem(measure.KINDS_OF_ROWS, "int8", lambda folder, manifest: measure.int8_rows(folder, manifest, 3))
    measure.main(["int8", str(exported[1]), "--csv", str(tmp_path / "rows.csv")])
    with open(tmp_path / "rows.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 and {"commit", "cpu", "date", "instructions"} <= rows[0].keys()


def test_instruction_sets_are_those_of_the_processor(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor: 0\nflags\t\t: fpu avx2 avx512_vnni sse\n")
    assert measure.instruction_sets(tmp_path / "cpuinfo") == ["avx2", "avx512_vnni"]
    (tmp_path / "cpuinfo").write_text("Features : fp asimddp i8mm\n")
    assert measure.instruction_sets(tmp_path / "cpuinfo") == ["asimddp", "i8mm"]
