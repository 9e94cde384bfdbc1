"""What tests of several rooms share: the door, and one walk down the whole road on a random model of 32 pixels."""

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings

import vlseg.quickstart as road
from vlseg.cli.door import main
from vlseg.train.clinic import write_dataset
from vlseg.train.fit import fit
from vlseg.train.recipe import Recipe

# the same examples every time; a busy machine draws them slowly, which says nothing of the code
settings.register_profile(
    "vlseg", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("vlseg")


class Said(NamedTuple):
    """How a command ended: exit code, and what it wrote on stdout and stderr."""

    code: int
    out: str
    err: str


class Walked(NamedTuple):
    """A quickstart at its smallest: its folder (data/, run/, bundle/, ...), its report, and what it wrote on stderr."""

    out: Path
    report: dict
    err: str


def call(*words) -> int:
    """Call `vlseg` with `words` in this process; return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["vlseg", *map(str, words)])
        try:
            main()
        except SystemExit as stop:
            return 0 if stop.code is None else int(stop.code)
    return 0


@pytest.fixture
def door(capsys):
    """A function from words to what `vlseg` does with them, in this process."""

    def said(*words) -> Said:
        capsys.readouterr()
        code = call(*words)
        return Said(code, *capsys.readouterr())

    return said


@pytest.fixture(scope="session")
def drawn_data(tmp_path_factory) -> Path:
    """A drawn clinic of 8 training, 4 validation and 5 test pictures of 40 pixels."""
    folder = tmp_path_factory.mktemp("drawn") / "clinic"
    write_dataset(folder, 8, 4, 5, size=40, style="clinic", seed=7)
    return folder


@pytest.fixture(scope="session")
def trained_run(drawn_data, tmp_path_factory) -> Path:
    """A run of one epoch on the drawn clinic, of the test-only size."""
    out = tmp_path_factory.mktemp("trained") / "run"
    recipe = Recipe(method="clipseg/dense-vl", size="nano", batch_size=4, max_epochs=1, min_epochs=1)
    fit(recipe, drawn_data, out, say=lambda line: None)
    return out


@pytest.fixture(scope="session")
def walked(tmp_path_factory) -> Walked:
    """The road, walked once for all tests through the door, over an older quickstart."""
    out = tmp_path_factory.mktemp("road") / "quickstart"
    out.mkdir()
    (out / road.MARKER).write_text("an earlier one")
    (out / "old.txt").write_text("of the earlier one")
    stdout, stderr = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(road, "SIZE", "nano")
        patch.setattr(road, "SIDE", 40)
        patch.setattr(road, "ROUNDS", 2)
        patch.setattr(road, "IMAGES", {"train": 8, "val": 4, "test": 5})
        patch.setattr(road, "RECIPE", {"batch_size": 4, "max_epochs": 2, "min_epochs": 1, "patience": 2})
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            code = call("quickstart", "--out", out, "--json")
    assert code == 0, stderr.getvalue()
    return Walked(out, json.loads(stdout.getvalue()), stderr.getvalue())
