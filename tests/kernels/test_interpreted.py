"""Start the launched suite in a process of its own: Triton's interpreter must be on before triton is imported."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

SUITE = Path(__file__).parent / "launched"


def interpreted(arguments, timeout):
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=SUITE.parents[2], env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.mark.parametrize(("marked", "least"), [("not slow", 110), pytest.param("slow", 6, marks=pytest.mark.slow)])
def test_every_operator_in_the_interpreter(marked, least):
    words = ["-q", "-p", "no:cacheprovider", f"--confcutdir={SUITE}", "-m", marked, str(SUITE)]
    done = interpreted(["-m", "pytest", *words], timeout=1800)
    passed = re.search(r"(\d+) passed", done.stdout)
    assert done.returncode == 0 and passed is not None, done.stdout[-8000:] + done.stderr[-2000:]
    assert int(passed.group(1)) >= least
    assert "failed" not in done.stdout


@pytest.fixture(scope="module")
def tiny_rows(tmp_path_factory):
    """The rows of the whole GPU path at tiny sizes, every implementation."""
    out = tmp_path_factory.mktemp("rows")
    door = "from vlseg.cli.door import main; main()"
    done = interpreted(["-c", door, "kernels", "bench", "--tiny", "--out", str(out)], timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    with open(out / "kernels.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_benchmark_runs_blind_at_tiny_sizes(tiny_rows):
    assert all("failed" not in row["note"] and "not measured" not in row["note"] for row in tiny_rows)
    forms = {(row["op"], row["form"]) for row in tiny_rows if row["impl"] == "fused"}
    assert forms == {
        ("bottleneck", ""),
        *(("gated_cross_attention", form) for form in ("closed", "adapter", "flash")),
        *(("text_pooling", form) for form in ("absorbed", "plain")),
    }
    by_impl = {impl: sum(row["impl"] == impl for row in tiny_rows) for impl in ("fused", "eager", "compile")}
    assert by_impl == {"fused": 14, "eager": 14, "compile": 2}
    assert {row["pass"] for row in tiny_rows} == {"forward", "forward+backward"}


@pytest.mark.slow
def test_every_row_holds_work_ceilings_and_shares(tiny_rows):
    for row in tiny_rows:
        seconds, moved, flops = 1e-3 * float(row["ms_p50"]), int(row["bytes"]), int(row["flops"])
        copy, matmul = 1e9 * float(row["copy_gb_s"]), 1e12 * float(row["matmul_tflop_s"])
        assert moved > 0 and flops > 0 and copy > 0 and matmul > 0
        assert float(row["share_of_copy"]) == pytest.approx(moved / seconds / copy, rel=0.05, abs=1e-4)
        assert float(row["share_of_matmul"]) == pytest.approx(flops / seconds / matmul, rel=0.05, abs=1e-4)
        assert row["bound"] == ("memory" if moved / copy > flops / matmul else "compute")
