"""The list of what only a GPU can show: one script, from a bare checkout, whose every step guards itself."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / ".ci" / "gpu"


def started(out, *steps, **environment):
    known = os.environ | {"OUT": str(out), "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(
        [str(SCRIPT), *steps], env=known, capture_output=True, text=True, timeout=1800, check=False, cwd=out
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
def test_without_a_gpu_nothing_is_run(tmp_path):
    done = started(tmp_path)
    assert done.returncode == 0 and "no NVIDIA GPU that torch can use here, nothing was run" in done.stdout
    assert (tmp_path / "steps.csv").read_text() == ""


def test_a_step_that_fails_says_so_and_the_next_one_runs(tmp_path):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\ncase "$*" in *kernels.bench*) echo broken; exit 3;; esac\necho "ran $*"\n')
    python.chmod(0o755)
    done = started(
        tmp_path / "..", "kernels", "whole", "train", PYTHON=str(python), TINY="1", OUT=str(tmp_path / "out")
    )
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "out" / "steps.csv", newline="") as file:
        steps = {name: verdict for name, verdict, _seconds in csv.reader(file)}
    assert steps == {"kernels": "failed (3)", "whole": "ok", "train": "ok"}
    assert "broken" in done.stdout and "ran -m vlseg.train.step_cost --tiny" in done.stdout


@pytest.mark.slow
def test_every_step_runs_blind(tmp_path):
    done = started(tmp_path, "kernels", "train", TINY="1")
    with open(tmp_path / "steps.csv", newline="") as file:
        steps = {name: verdict for name, verdict, _seconds in csv.reader(file)}
    assert steps == {"kernels": "ok", "train": "ok"}, done.stdout
    assert {"kernels.csv", "train_step.csv", "kernels.log", "train.log"} <= {path.name for path in tmp_path.iterdir()}
