"""What fuzzing once found, and the whole examples it starts from: no door lets anything out but a UserError."""

from pathlib import Path

import pytest

from .targets import TARGETS, seeds

FINDINGS = sorted(path for path in (Path(__file__).parent / "findings").rglob("*") if path.is_file())
SLOW = ("checkpoint",)  # loads torch


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: f"{path.parent.name}-{path.name}")
@pytest.mark.filterwarnings("ignore")  # of Pillow and pydicom, about files as broken as these
def test_a_finding_stays_mended(path):
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.filterwarnings("ignore")
def test_whole_examples_cut_ones_and_nothing(target):
    for data in (b"", *seeds(target)):
        for part in (data, data[: len(data) // 2], data[: len(data) - 1], data + b"\0", b"\xff" + data):
            TARGETS[target](part)
