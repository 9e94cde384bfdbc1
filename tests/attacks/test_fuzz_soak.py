"""The fuzzer itself, for as long as `VLSEG_FUZZ_SECONDS` says for each door (60), a row for each."""

import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..faults.rows import keep
from .targets import TARGETS

HERE = Path(__file__).parent
SECONDS = int(os.environ.get("VLSEG_FUZZ_SECONDS", "60"))


@pytest.mark.soak
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_found(target, tmp_path):
    pytest.importorskip("atheris", reason='atheris is not installed: pip install "vlseg[fuzz]"')
    words = [HERE / "fuzz.py", target, "--seconds", SECONDS, "--corpus", tmp_path]
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run([sys.executable, "-W", "ignore", *map(str, words)], capture_output=True, check=False)
    computed = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    told = done.stderr.decode(errors="replace")
    runs = re.search(r"number_of_executed_units: *(\d+)", told)
    found = [path for path in (tmp_path / "found" / target).iterdir()]
    for path in found:
        print(path.name, path.read_bytes()[:200])
    note = f"{time.monotonic() - start:.0f} s, of them {computed:.0f} s of a processor"
    keep("fuzzing with atheris", target, "findings", len(found), "findings", int(runs[1]) if runs else 0, note)
    assert done.returncode == 0 and runs and not found, told[-3000:]
