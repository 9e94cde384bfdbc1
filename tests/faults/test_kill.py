"""Kill -9 at random points: the same command goes on to the end, and no half file is ever taken for a whole one."""

import os
import shutil

import pytest

from ..deploy.tensorrt.conftest import with_answers
from .killing import draw_pictures, kill_often, seconds_of, tasks
from .rows import keep

KILLS = int(os.environ.get("VLSEG_SOAK_KILLS", "50"))
JOBS = ("train", "export", "build", "segment")


@pytest.fixture
def job(request, shapes, trained_run, toy_bundle, tmp_path):
    bundle = with_answers(toy_bundle) if request.param == "build" else toy_bundle
    place = tmp_path / "place"
    place.mkdir()
    run = shutil.copytree(trained_run, tmp_path / "trained")
    return request.param, tasks(shapes, run, bundle, draw_pictures(tmp_path / "pictures"), place)[request.param]


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS, indirect=True)
def test_a_handful_of_kills(job):
    name, task = job
    assert len(list(kill_often(task, 4, seed=len(name), seconds=seconds_of(task)))) == 4


@pytest.mark.soak
@pytest.mark.parametrize("job", JOBS, indirect=True)
def test_fifty_kills(job):
    name, task = job
    shares = list(kill_often(task, KILLS, seed=7, seconds=seconds_of(task)))
    note = f"from {min(shares):.2f} to {max(shares):.2f} of a whole run"
    keep(
        "kill -9 at drawn moments",
        name,
        "kills after which all was whole or resumed",
        len(shares),
        "kills",
        KILLS,
        note,
    )
    assert len(shares) == KILLS
