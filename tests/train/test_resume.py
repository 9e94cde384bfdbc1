import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
from safetensors.torch import load_file

from vlseg.deploy.errors import UserError
from vlseg.train.fit import fit
from vlseg.train.loop import Fit
from vlseg.train.models.methods import METHODS
from vlseg.train.recipe import load_recipe


class Interrupted(RuntimeError):
    """What the tests throw into the middle of an epoch."""


def silent(line: str) -> None:
    """Say nothing."""


def interrupt(monkeypatch, epoch: int, step: int):
    whole = Fit.training_step

    def broken(self, batch, index):
        if (self.current_epoch, index) == (epoch, step):
            raise Interrupted
        return whole(self, batch, index)

    patch = monkeypatch.context()
    patch.__enter__().setattr(Fit, "training_step", broken)
    return patch


def assert_same_run(one, other):
    here, there = (load_file(run / "trained.safetensors") for run in (one, other))
    assert here.keys() == there.keys() and all(torch.equal(here[name], there[name]) for name in here)
    tables = [[row.split(",")[:-1] for row in (run / "metrics.csv").read_text().splitlines()] for run in (one, other)]
    assert tables[0] == tables[1]  # all but the minutes


SETTINGS = ["seed=0", "batch_size=4", "max_epochs=4", "min_epochs=1", "augment=true", "lr=1e-2", "plateau_patience=0"]


@pytest.fixture(scope="module")
def recipe():
    """A recipe with every draw there is, and a learning rate that changes."""
    return load_recipe("dense-vl", SETTINGS, method="clipseg/dense-vl", size="nano")


@pytest.fixture(scope="module")
def whole(shapes, recipe, tmp_path_factory):
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    fit(recipe, shapes, out, say=silent)
    return out


@pytest.mark.parametrize(("epoch", "step"), [(0, 1), (1, 0), (3, 2)])
def test_an_interrupted_run_ends_as_if_nothing_had_been(shapes, tmp_path, recipe, whole, monkeypatch, epoch, step):
    patch = interrupt(monkeypatch, epoch, step)
    with pytest.raises(Interrupted):
        fit(recipe, shapes, tmp_path / "broken", say=silent)
    patch.__exit__(None, None, None)
    torch.manual_seed(99)  # whatever state the next process is in
    fit(recipe, shapes, tmp_path / "broken", say=silent)
    assert_same_run(whole, tmp_path / "broken")


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in METHODS if not name.endswith("/frozen")])
def test_every_method_goes_on_where_it_was_interrupted(shapes, tmp_path, method, monkeypatch):
    settings = ["seed=0", "batch_size=2", "max_epochs=2", "min_epochs=1", "train_images=4", "val_images=2", "prompt=p2"]
    recipe = load_recipe(None, settings, method=method, size="nano").replace(max_minutes=None)
    fit(recipe, shapes, tmp_path / "whole", test=False, say=silent)
    patch = interrupt(monkeypatch, 1, 1)
    with pytest.raises(Interrupted):
        fit(recipe, shapes, tmp_path / "broken", test=False, say=silent)
    patch.__exit__(None, None, None)
    torch.manual_seed(99)
    fit(recipe, shapes, tmp_path / "broken", test=False, say=silent)
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


def test_no_pickle_is_written_or_read(shapes, tmp_path, nano, monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("pickle")

    monkeypatch.setattr(torch, "load", forbidden)
    monkeypatch.setattr(torch, "save", forbidden)
    patch = interrupt(monkeypatch, 1, 0)
    with pytest.raises(Interrupted):
        fit(nano, shapes, tmp_path / "run", say=silent)
    patch.__exit__(None, None, None)
    kinds = {path.suffix for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert kinds == {".safetensors", ".json", ".csv"}
    assert fit(nano, shapes, tmp_path / "run", say=silent)["epochs"] == 3


def test_a_run_that_had_stopped_does_not_train_on(shapes, tmp_path, nano, monkeypatch):
    recipe = nano.replace(lr=1e-9, patience=1, min_delta=0.5, max_epochs=20)

    def failing(*args):
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr("vlseg.train.fit.choose_for_all", failing)
        with pytest.raises(Interrupted):
            fit(recipe, shapes, tmp_path / "run", say=silent)
    before = (tmp_path / "run" / "metrics.csv").read_text()
    assert fit(recipe, shapes, tmp_path / "run", say=silent)["epochs"] == 2
    assert (tmp_path / "run" / "metrics.csv").read_text() == before


@pytest.fixture
def listening():
    """Python's own handler of SIGINT; a shell's background jobs start deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def control_c(monkeypatch, hook: str, epoch: int):
    """Send SIGINT in a hook of the loop, in one epoch."""
    whole = getattr(Fit, hook)

    def interrupted(self):
        if self.current_epoch == epoch:
            signal.raise_signal(signal.SIGINT)
        whole(self)

    patch = monkeypatch.context()
    patch.__enter__().setattr(Fit, hook, interrupted)
    return patch


@pytest.mark.parametrize(("epoch", "kept"), [(0, "no epoch was whole yet"), (1, "the last whole epoch is kept")])
def test_control_c_says_how_to_go_on(shapes, tmp_path, nano, monkeypatch, listening, epoch, kept):
    patch = control_c(monkeypatch, "on_validation_epoch_start", epoch)
    with pytest.raises(KeyboardInterrupt, match=f"{kept} in .*run: run the same command"):
        fit(nano, shapes, tmp_path / "run", say=silent)
    patch.__exit__(None, None, None)
    assert signal.getsignal(signal.SIGINT) is listening  # Lightning alone would leave it ignored
    kinds = {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert kinds <= {"session.json", "last.safetensors", "metrics.csv"}
    fit(nano, shapes, tmp_path / "run", say=silent)
    fit(nano, shapes, tmp_path / "whole", say=silent)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_control_c_while_the_threshold_is_chosen(shapes, tmp_path, nano, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("vlseg.train.fit.choose_for_all", interrupted)
        with pytest.raises(KeyboardInterrupt, match="the last whole epoch is kept"):
            fit(nano, shapes, tmp_path / "run", say=silent)
    assert fit(nano, shapes, tmp_path / "run", say=silent)["epochs"] == 3


def test_starting_anew(shapes, tmp_path, nano, monkeypatch):
    patch = interrupt(monkeypatch, 2, 0)
    with pytest.raises(Interrupted):
        fit(nano, shapes, tmp_path / "run", say=silent)
    patch.__exit__(None, None, None)
    fit(nano.replace(lr=1e-2), shapes, tmp_path / "run", resume=False, say=silent)
    fit(nano.replace(lr=1e-2), shapes, tmp_path / "straight", say=silent)
    assert_same_run(tmp_path / "run", tmp_path / "straight")


def test_a_killed_process_resumes(shapes, tmp_path, recipe, whole):
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent(f"""
        import os, signal, sys
        from vlseg.train import fit, recipe
        from vlseg.train.loop import Fit
        whole = Fit.training_step
        def broken(self, batch, index):
            if (self.current_epoch, index) == (1, 2):
                os.kill(os.getpid(), signal.SIGKILL)
            return whole(self, batch, index)
        Fit.training_step = broken
        chosen = recipe.load_recipe("dense-vl", {SETTINGS}, method="clipseg/dense-vl", size="nano")
        fit.fit(chosen, sys.argv[1], sys.argv[2])
        """)
    )
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    killed = subprocess.run(
        [sys.executable, script, shapes, tmp_path / "killed"], env=environment, capture_output=True, text=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert "epoch 0" in killed.stderr and killed.stdout == ""
    fit(recipe, shapes, tmp_path / "killed", say=silent)
    assert_same_run(whole, tmp_path / "killed")


@pytest.mark.parametrize("balance", ["images", "sets"])
def test_of_several_folders_it_goes_on_to_the_same(pair, tmp_path, nano, monkeypatch, balance):
    recipe = nano.replace(augment=True, negatives=0.3, balance=balance)
    fit(recipe, pair, tmp_path / "whole", say=silent)
    patch = interrupt(monkeypatch, 1, 2)
    with pytest.raises(Interrupted):
        fit(recipe, pair, tmp_path / "run", say=silent)
    patch.__exit__(None, None, None)
    with pytest.raises(UserError, match="other data"):
        fit(recipe, pair[::-1], tmp_path / "run", say=silent)
    fit(recipe, pair, tmp_path / "run", say=silent)
    assert_same_run(tmp_path / "whole", tmp_path / "run")
