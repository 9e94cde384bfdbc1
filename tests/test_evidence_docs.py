"""Tables and figures of the evidence, from rows made up here."""

import csv
import importlib.util
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
ROW = {
    "prompt": "p1", "set": "", "train_images": "140", "tested_on": "ph2_skin", "data": "ph2_skin", "seed": "41",
    "weights_hash": "new", "trained_parameters": "1000", "megabytes": "0.004", "minutes_to_95": "0.5", "epochs": "9",
    "iou": "0.5", "hd95": "20",
}  # fmt: skip
CELLS = [
    ("otsu", "41", "", 0.6),
    ("image/unet", "41", "", 0.8),
    ("clipseg/full", "41", "old", 0.1),
    ("clipseg/full", "41", "new", 0.9),
    ("clipseg/maple", "41", "new", 0.72),
    ("clipseg/maple", "42", "new", 0.92),
]


def loaded(name: str):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """The module of the tables, over rows of its own."""
    module = loaded("tables")
    monkeypatch.setattr(module, "MEASURED", tmp_path)
    rows = [
        ROW | {"cell": str(i), "method": method, "seed": seed, "weights_hash": weights, "dice": str(dice)}
        for i, (method, seed, weights, dice) in enumerate(CELLS)
    ]
    rows[0] |= {"trained_parameters": "", "megabytes": "", "minutes_to_95": "", "epochs": ""}
    others = [
        rows[-1] | other for other in ({"prompt": "p0"}, {"set": "lr=1"}, {"train_images": "35"}, {"tested_on": "busi"})
    ]
    write(tmp_path / "evidence.csv", rows + [other | {"dice": "0"} for other in others])
    curve = [
        {"cell": str(i), "epoch": e, "minutes": e / 10, "val_dice": e / 9} for i in range(1, 6) for e in (0, 1, 1, 2)
    ]
    write(tmp_path / "curves.csv", curve)
    yield module
    del sys.modules["tables"]


def write(path, rows):
    with open(path, "w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def test_tables_hold_the_newest_weights_and_the_range_over_seeds(tables):
    assert tables.compared().splitlines()[2:] == [
        "| Otsu | 0.600 |",
        "| U-Net | 0.800 |",
        "| clipseg/full | 0.900 |",
        "| clipseg/maple | 0.820 (0.720 to 0.920) |",
    ]
    assert "| clipseg/maple | 80.0% |" in tables.against_full()
    assert "| clipseg/maple | 1,000 | 0.004 | 0.500 (0.500 to 0.500) |" in tables.cost()
    assert "| Otsu | - | - | 0.500 | 20.0 | - | - |" in tables.cost()


def test_an_epoch_that_was_written_twice_counts_once(tables):
    assert tables.curves()["1"] == [(0.0, 0.0), (0.1, pytest.approx(1 / 9)), (0.2, pytest.approx(2 / 9))]


def test_figures_are_drawn(tables, tmp_path):
    plots = loaded("plots")
    rows = tables.evidence_rows()
    plots.by_method(rows, tmp_path / "dice.svg")
    plots.learning(rows, tmp_path / "curves.svg")
    for name in ("dice.svg", "curves.svg"):
        text = (tmp_path / name).read_text()
        assert "</svg>" in text and "ph2_skin" in text and "dc:date" not in text
    first = (tmp_path / "dice.svg").read_bytes()
    plots.by_method(rows, tmp_path / "dice.svg")
    assert (tmp_path / "dice.svg").read_bytes() == first
