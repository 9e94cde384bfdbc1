import csv

import pytest
import torch

from vlseg.train.callbacks import Best, Clock, PatientStopping
from vlseg.train.fit import fit, read_splits


class FakeTrainer:
    """As much of a trainer as the callbacks ask for."""

    class strategy:
        @staticmethod
        def reduce_boolean_decision(decision, all):
            return decision

    class state:
        fn = "fit"

    sanity_checking = fast_dev_run = should_stop = False

    def __init__(self):
        self.current_epoch, self.callback_metrics = 0, {}


@pytest.mark.parametrize(
    ("scores", "patience", "min_epochs", "stops_at"),
    [
        ([0.5, 0.4, 0.4, 0.4], 2, 0, 2),
        ([0.5, 0.4, 0.4, 0.6, 0.6, 0.6], 2, 4, 5),  # an early wish to stop is forgotten once the score rises
        ([0.5, 0.4, 0.4, 0.4, 0.4], 2, 5, 4),
        ([0.5, 0.50001, 0.50002, 0.50003], 2, 0, 2),  # less than min_delta is no gain
        ([0.1, 0.2, 0.3, 0.4], 2, 0, None),
    ],
)
def test_stopping(scores, patience, min_epochs, stops_at):
    trainer, stopping = FakeTrainer(), PatientStopping(min_epochs, patience, 1e-4)
    stopped = None
    for epoch, score in enumerate(scores):
        trainer.current_epoch, trainer.callback_metrics = epoch, {"val_dice": torch.tensor(score)}
        stopping.on_validation_end(trainer, None)
        if trainer.should_stop:
            stopped = epoch
            break
    assert stopped == stops_at


def test_an_early_stop_that_someone_else_asked_for_stands():
    trainer, stopping = FakeTrainer(), PatientStopping(10, 1, 0)
    trainer.should_stop, trainer.callback_metrics = True, {"val_dice": torch.tensor(0.5)}
    stopping.on_validation_end(trainer, None)
    assert trainer.should_stop


def test_best_keeps_a_copy():
    layer, best, trainer = torch.nn.Linear(2, 1), Best(), FakeTrainer()
    layer.bias.requires_grad_(False)
    for epoch, score in enumerate((0.3, 0.7, 0.7, 0.2)):
        with torch.no_grad():
            layer.weight.fill_(epoch)
        trainer.current_epoch, trainer.callback_metrics = epoch, {"val_dice": torch.tensor(score)}
        best.on_validation_end(trainer, layer)
    assert best.epoch == 1 and best.weights.keys() == {"weight"} and best.weights["weight"].sum() == 2
    other = Best()
    other.load_state_dict(best.state_dict())
    assert (other.score, other.epoch) == (best.score, 1)


def test_clock_counts_over_resumes():
    clock, trainer = Clock(1.0), FakeTrainer()
    clock.load_state_dict({"minutes": 0.5})
    assert clock.minutes == 0.5
    clock.on_train_start(trainer, None)
    clock.on_train_batch_end(trainer, None, None, None, 0)
    assert 0.5 < clock.minutes < 0.6 and not trainer.should_stop
    clock.load_state_dict({"minutes": 1.0})
    clock.on_train_batch_end(trainer, None, None, None, 1)
    assert trainer.should_stop


def test_time_over_still_leaves_a_whole_run(shapes, tmp_path, nano):
    recipe = nano.replace(max_minutes=0.0, max_epochs=50, min_epochs=40, batch_size=2)
    info = fit(recipe, shapes, tmp_path / "run", say=lambda line: None)
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines()))
    assert info["epochs"] == len(rows) == 1 and rows[0]["step"] == "1"


def test_the_clock_of_the_process_counts_what_it_computed(monkeypatch):
    """A machine that is busy with something else takes nothing away."""
    now = {"process_time": 100.0, "monotonic": 0.0}
    for name in now:
        monkeypatch.setattr(f"vlseg.train.callbacks.time.{name}", lambda name=name: now[name])
    cpu, wall, trainer = Clock(1.0, kind="cpu"), Clock(1.0), FakeTrainer()
    for clock in (cpu, wall):
        clock.on_train_start(trainer, None)
    now.update(process_time=103.0, monotonic=600.0)
    assert (cpu.minutes, wall.minutes) == (0.05, 10.0)
    cpu.on_train_batch_end(trainer, None, None, None, 0)
    assert not trainer.should_stop
    now["process_time"] = 160.0
    cpu.on_train_batch_end(trainer, None, None, None, 1)
    assert trainer.should_stop


def test_steps_are_a_budget_too(shapes, tmp_path, nano):
    recipe = nano.replace(max_steps=7, max_epochs=50, min_epochs=40, batch_size=2, clock="cpu")
    info = fit(recipe, shapes, tmp_path / "run", test=False, say=lambda line: None)
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert info["epochs"] == 2 and rows[-1].split(",")[1] == "7"  # five steps an epoch; it validates where it stops
    assert "test" not in info["metrics"]


def test_fewer_images_are_a_draw_inside_a_larger_one(shapes, nano):
    draws = [
        {sample.name for sample in read_splits(shapes, nano.replace(train_images=count, val_images=2))["train"]}
        for count in (3, 6, 10, None)
    ]
    assert [len(draw) for draw in draws] == [3, 6, 10, 10] and draws[0] < draws[1] < draws[2] == draws[3]
    splits = read_splits(shapes, nano.replace(val_images=2))
    assert (len(splits["train"]), len(splits["val"]), len(splits["test"])) == (10, 2, 3)
