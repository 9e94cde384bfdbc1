import os
import subprocess
import sys
import textwrap

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = """
import json, sys
from vlseg.train import fit, recipe
devices = int(sys.argv[3])
settings = ["seed=0", "batch_size=4", "max_epochs=2", "min_epochs=1", "max_minutes=5", f"devices={devices}"]
chosen = recipe.load_recipe("dense-vl", settings, method="clipseg/dense-vl", size="nano")
info = fit.fit(chosen, sys.argv[1], sys.argv[2])
print(json.dumps(bool(info)))
"""


@pytest.mark.slow
def test_two_processes_train_as_one(shapes, tmp_path):
    """10 images in batches of 4: the last batch of 2 is shared one and one, and 3 test images by the first alone."""
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(SCRIPT))
    told = {}
    for devices in (1, 2):
        done = subprocess.run(
            [sys.executable, script, shapes, tmp_path / f"run{devices}", str(devices)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        told[devices] = done
    assert sorted(told[2].stdout.split()) == ["false", "true"]  # the second process returns nothing
    assert told[2].stderr.count("epoch 0:") == 1
    tables = [
        [[float(cell) for cell in row.split(",")[:-1]] for row in file.read_text().splitlines()[1:]]
        for file in (tmp_path / "run1" / "metrics.csv", tmp_path / "run2" / "metrics.csv")
    ]
    assert len(tables[0]) == 2
    for one, two in zip(*tables, strict=True):
        assert one == pytest.approx(two, rel=1e-5)
    here, there = (load_file(tmp_path / run / "trained.safetensors") for run in ("run1", "run2"))
    for name in here:
        torch.testing.assert_close(here[name], there[name], rtol=0, atol=1e-4)
