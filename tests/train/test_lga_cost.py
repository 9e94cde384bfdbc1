"""The measurements of LGA run and say what they measured; what they find at this size means nothing."""

import csv
import sys

import pytest
import torch

from vlseg.kernels import ops
from vlseg.train import lga_cost
from vlseg.train.models.methods import build_model

MODULES = [
    f"{name}{how}"
    for name in ("modules, exact over naive", "exact modules over the encoder")
    for how in (", by count of products", "")
]


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("what", "measurements"),
    [
        ("step", ["training step of one image, peak resident memory"]),
        ("modules", MODULES * 2),
        ("sizes", ["latency over that at 128 pixels", "latency, one thread"] * 2),
    ],
)
def test_rows(what, measurements, tmp_path, monkeypatch):
    words = ["--csv", str(tmp_path / "lga.csv"), "--size", "nano", "--rounds", "2", "--whole-rounds", "2"]
    monkeypatch.setattr(sys, "argv", ["lga_cost", what, *words, "--sides", "64", "128"])
    lga_cost.main()
    with open(tmp_path / "lga.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["measurement"] for row in rows] == measurements
    assert all(float(row["value"]) > 0 and row["threads"] == "1" and row["commit"] for row in rows)


@pytest.mark.parametrize("tokens", ["mean", "all"])
def test_the_naive_forms_are_the_same_function(tokens):
    model = build_model("sam/lga", "nano", text_tokens=tokens)
    with torch.no_grad():
        for fusion in model.fusions.values():
            fusion.injector.gamma.fill_(1)
    states, text = lga_cost.encoded(model)
    kept = ops.text_pooling
    naive = lga_cost.naively(model, states, text)
    torch.testing.assert_close(lga_cost.through(model, states, text), naive, rtol=1e-4, atol=1e-4)
    assert ops.text_pooling is kept
