import csv
import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from vlseg.deploy.errors import UserError
from vlseg.train.fit import fit
from vlseg.train.loop import Fit
from vlseg.train.models.grafts import trained_parameters
from vlseg.train.models.runs import load_run


def silent(line: str) -> None:
    """Say nothing."""


def test_a_run_is_whole(shapes, tmp_path, nano):
    out, said = tmp_path / "deep" / "run", []
    info = fit(nano.replace(lr=3e-2, prompt="p1", max_epochs=6), shapes, out, say=said.append)
    assert sorted(p.name for p in out.iterdir()) == [
        "MODEL_CARD.md",
        "metrics.csv",
        "predictions.png",
        "run.json",
        "trained.safetensors",
    ]
    assert info == json.loads((out / "run.json").read_text())
    assert 0.1 <= info["threshold"] <= 0.9 and info["metrics"]["test"]["n"] == 3
    assert info["recipe"]["lr"] == 3e-2 and info["images"] == {"train": 10, "val": 4, "test": 3}
    rows = list(csv.DictReader((out / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == [str(i) for i in range(6)] and rows[-1]["step"] == "18"
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    best = max(rows, key=lambda row: float(row["val_dice"]))
    assert info["best_epoch"] == int(best["epoch"])
    Image.open(out / "predictions.png").verify()
    model, _ = load_run(out)
    assert load_file(out / "trained.safetensors").keys() == trained_parameters(model).keys()
    assert any("epoch 5" in line for line in said)
    assert info["operators"] in ("fused", "reference") and f"with {info['operators']} operators" in said[0]
    assert not any(str(shapes) in text for text in (json.dumps(info), (out / "metrics.csv").read_text()))

    said.clear()
    again = fit(nano.replace(lr=3e-2, prompt="p1", max_epochs=6), shapes, out, say=said.append)
    assert again == info and "finished already" in said[0]
    with pytest.raises(UserError, match="another lr"):
        fit(nano.replace(lr=1e-2, prompt="p1"), shapes, out, say=silent)


def test_the_best_epoch_is_kept_not_the_last(shapes, tmp_path, nano, monkeypatch):
    seen = {}

    def scripted(self):
        epoch = self.current_epoch
        seen[epoch] = {name: p.detach().clone() for name, p in trained_parameters(self.model).items()}
        score = torch.tensor([0.2, 0.8, 0.5][epoch])
        self.log_dict({"val_loss": 1 - score, "val_dice": score, "val_iou": score, "train_loss": 1 - score})

    monkeypatch.setattr(Fit, "on_validation_epoch_end", scripted)
    info = fit(nano, shapes, tmp_path / "run", say=silent)
    assert info["best_epoch"] == 1
    saved = load_file(tmp_path / "run" / "trained.safetensors")
    assert all(torch.equal(saved[name], weight) for name, weight in seen[1].items())
    assert not all(torch.equal(saved[name], weight) for name, weight in seen[2].items())


def test_learning_rate_falls_when_the_loss_stalls_and_training_stops(shapes, tmp_path, nano):
    recipe = nano.replace(lr=1e-6, plateau_patience=0, patience=2, max_epochs=9, min_delta=0.5)
    fit(recipe, shapes, tmp_path / "run", say=silent)
    rates = [float(r["lr"]) for r in csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines())]
    assert len(rates) == 3 and rates[0] == 1e-6 and rates[-1] == pytest.approx(3e-7)


def test_augmentation_and_other_sizes_train(shapes, tmp_path, nano):
    recipe = nano.replace(augment=True, image_size=48, max_epochs=1, fidelity="released", precision="bf16-mixed")
    info = fit(recipe, shapes, tmp_path / "run", say=silent)
    assert info["image_size"] == 48 and info["recipe"]["augment"]


def test_plain_folder_and_no_test_split(shapes, tmp_path, nano):
    plain = tmp_path / "plain"
    shutil.copytree(shapes / "images", plain / "images")
    shutil.copytree(shapes / "masks", plain / "masks")
    recipe, said = nano.replace(method="clipseg/decoder", max_epochs=1), []
    info = fit(recipe, plain, tmp_path / "one", sentence="a square", say=said.append)
    assert info["operators"] is None and "operators" not in said[0] and "image and text computed once" in said[0]
    assert info["images"] == {"train": 15, "val": 1, "test": 1}
    with pytest.raises(UserError, match="give the prompt"):
        fit(recipe, plain, tmp_path / "two", say=silent)
    shutil.copytree(shapes, tmp_path / "untested")
    (tmp_path / "untested" / "anns" / "test.json").unlink()
    info = fit(recipe, tmp_path / "untested", tmp_path / "three", say=silent)
    assert info["metrics"].keys() == {"val"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"method": "clipseg/magic"}, "known: clipseg/frozen"),
        ({"size": "huge"}, "known: tiny"),
        ({"options": {"ranks": 3}}, "known: rank"),
        ({"method": "clipseg/frozen"}, "trains nothing"),
        ({"prompt": "p7"}, "no prompt key 'p7'"),
        ({"val_prompt": "p7"}, "no prompt key 'p7'"),
        ({"image_size": 33}, "multiple of the patch size"),
    ],
)
def test_a_bad_recipe_leaves_nothing(shapes, tmp_path, nano, changes, says):
    with pytest.raises(UserError, match=says):
        fit(nano.replace(**changes), shapes, tmp_path / "run", say=silent)
    assert not (tmp_path / "run").exists()


def broken(shapes, folder, what: str):
    """A copy of the data with one fault."""
    shutil.copytree(shapes, folder)
    image, mask = folder / "images" / "train0.png", folder / "masks" / "train0.png"
    if what == "empty masks":
        for path in (folder / "masks").iterdir():
            Image.new("L", (56, 48)).save(path)
    elif what == "other size":
        Image.new("L", (50, 48), 255).save(mask)
    elif what == "truncated":
        image.write_bytes(image.read_bytes()[:200])
    elif what == "empty file":
        image.write_bytes(b"")
    elif what == "missing":
        mask.unlink()
    elif what == "no val":
        (folder / "anns" / "val.json").unlink()
    elif what == "empty split":
        (folder / "anns" / "train.json").write_text("[]")
    return folder


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("empty masks", "all 10 training masks are empty"),
        ("other size", "expected equal sizes"),
        ("truncated", "train0.png"),
        ("empty file", "train0.png"),
        ("missing", "train0.png"),
        ("no val", "no split 'val'"),
        ("empty split", "empty split"),
    ],
)
def test_bad_data_leaves_nothing(shapes, tmp_path, nano, what, says):
    data = broken(shapes, tmp_path / "data", what)
    with pytest.raises(UserError, match=says):
        fit(nano, data, tmp_path / "run", say=silent)
    assert not (tmp_path / "run").exists()


def test_missing_folder_and_foreign_output(shapes, tmp_path, nano):
    with pytest.raises(UserError, match="no data folder"):
        fit(nano, tmp_path / "nowhere", tmp_path / "run", say=silent)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="is left as it is"):
        fit(nano, shapes, tmp_path / "mine", say=silent)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["letter.txt"]


def test_nan_stops_names_the_files_and_keeps_the_last_whole_epoch(shapes, tmp_path, nano, monkeypatch):
    step, out = Fit.training_step, tmp_path / "run"

    def poisoned(self, batch, index):
        if self.current_epoch == 1 and index == 1:
            batch = batch._replace(pixel_values=batch.pixel_values * torch.nan)
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "training_step", poisoned)
        with pytest.raises(UserError, match=r"loss is nan at step 4 \(epoch 1, batch 1: train\d+, train\d+") as error:
            fit(nano, shapes, out, say=silent)
    assert str(error.value).count("train") == 4
    assert not (out / "run.json").exists() and (out / "state" / "last.safetensors").exists()
    info = fit(nano, shapes, out, say=silent)
    assert info["epochs"] == 3


def test_weights_that_diverge_in_the_last_step_are_not_kept(shapes, tmp_path, nano):
    with pytest.raises(UserError, match="loss is"):
        fit(nano.replace(lr=1e30, clip_norm=0.0, batch_size=10), shapes, tmp_path / "run", say=silent)
    assert not (tmp_path / "run" / "state" / "last.safetensors").exists()
