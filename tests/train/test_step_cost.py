"""What a training step costs: the GPU's lines at test size on a CPU."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

from vlseg.train import step_cost

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_step_runs_blind_at_test_size(tmp_path):
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    words = ["-m", "vlseg.train.step_cost", "--tiny", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with open(tmp_path / "train_step.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["note"] for row in rows] == [""] * len(rows) and len(rows) % 2 == 0
    assert [row["impl"] for row in rows[:2]] == ["reference", "fused"]
    assert all(float(row["step_ms"]) > 0 for row in rows)
    assert float(rows[0]["adapters_ms"]) > 0 and rows[1]["adapters_ms_over_reference"]


def test_a_method_that_fails_says_so(monkeypatch, tmp_path):
    def broken(setting):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(step_cost, "rows", broken)
    rows = step_cost.measure_all(tmp_path, tiny=True)
    assert rows and all("out of memory" in step_cost.goals(row) for row in rows)


def test_the_adapters_of_a_step_are_all_found():
    step = step_cost.Step(step_cost.Setting("clipseg/dense-vl", "nano", 2, "cpu"))
    adapters = step.adapters()
    assert adapters is not None
    adapters()
    frozen = step_cost.Step(step_cost.Setting("clipseg/decoder", "nano", 2, "cpu"))
    assert frozen.adapters() is None
