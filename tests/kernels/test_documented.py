"""The figures of docs/kernels.md are those of the rows."""

import csv
import re
from pathlib import Path

import pytest

KERNELS = Path(__file__).parents[2] / "kernels"
DOCS = (KERNELS.parent / "docs" / "kernels.md").read_text()


def rows(name):
    with open(KERNELS / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def table(first):
    """Return the cells of each line of the table whose head begins with a cell."""
    lines = re.search(rf"^\| {re.escape(first)} \|.*?\n\n", DOCS + "\n\n", re.MULTILINE | re.DOTALL)
    assert lines, first
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines.group().splitlines()[2:] if line]


def most(kernel, variant):
    found = [row for row in rows("resources") if (row["kernel"], row["variant"]) == (kernel, variant)]
    if not found:
        return ["-", "-"]
    return [f"{max(int(r['registers']) for r in found)}", f"{max(int(r['shared_bytes']) for r in found) / 1024:.1f}"]


def test_the_table_of_resources():
    told = table("kernel")
    assert {line[0].strip("`") for line in told} == {row["kernel"] for row in rows("resources")}
    for name, *cells in told:
        assert cells == most(name.strip("`"), "plugin") + most(name.strip("`"), "torch"), name


def test_no_row_of_the_report_spills():
    found = rows("resources")
    assert all(int(row["spill_bytes"]) == 0 for row in found)
    assert all(int(row["shared_bytes"]) <= 48 * 1024 for row in found if row["variant"] == "plugin")
    assert f"All {sum(int(row['count']) for row in found)} rows" in DOCS


def test_the_table_of_the_text_pooling():
    newest = {(row["text_tokens"], row["form"]): row for row in rows("measured") if row["launch"] == "cpu"}
    told = table("text tokens")
    assert [line[0] for line in told] == ["1", "4", "16", "77"]
    for tokens, plain, absorbed, ratio in told:
        row = newest[tokens, "absorbed"]
        assert float(plain) == pytest.approx(float(newest[tokens, "plain"]["ms_p50"]), abs=0.051)
        assert float(absorbed) == pytest.approx(float(row["ms_p50"]), abs=0.051)
        assert ratio == f"{row['ratio_p50']} ({row['ratio_p20']} to {row['ratio_p80']})"
    assert float(newest["1", "absorbed"]["ratio_p50"]) >= 3


def test_no_gpu_figure_is_claimed_without_a_row():
    on_a_gpu = [row for row in rows("measured") if row["launch"] in ("plain", "graph")]
    assert bool(on_a_gpu) != ("there is no GPU figure" in DOCS)
