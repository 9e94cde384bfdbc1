"""Start the launched suite in a process of its own: Triton's interpreter must be on before triton is imported."""

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


def test_every_operator_in_the_interpreter():
    done = interpreted(["-m", "pytest", "-q", "-p", "no:cacheprovider", str(SUITE)], timeout=900)
    passed = re.search(r"(\d+) passed", done.stdout)
    assert done.returncode == 0 and passed is not None, done.stdout[-8000:] + done.stderr[-2000:]
    assert int(passed.group(1)) >= 60
    assert "failed" not in done.stdout


def test_the_benchmark_runs_blind_at_tiny_sizes(tmp_path):
    done = interpreted(["-m", "vlseg.kernels.bench", "--tiny", "--out", str(tmp_path)], timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = (tmp_path / "kernels.csv").read_text().splitlines()
    assert lines[0].startswith("op,impl,form,pass,launch")
    assert len(lines) == 1 + 3 * 2 * 2
    assert "failed" not in done.stdout
