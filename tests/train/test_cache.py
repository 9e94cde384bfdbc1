import csv

import pytest
import torch
from safetensors.torch import load_file

from vlseg.deploy.annotations import read_split
from vlseg.deploy.errors import UserError
from vlseg.train.cache import CachedModel, DiskStore, MemoryStore
from vlseg.train.data import Batch, Look, Order, Pictures, make_loader
from vlseg.train.fit import fit
from vlseg.train.models.methods import build_model


def silent(line: str) -> None:
    """Say nothing."""


def batches(shapes, model, size: int, prompt: str = "p1") -> list[Batch]:
    pictures = Pictures(read_split(shapes, "train"), Look(model.image_size, model.mean, model.std, prompt))
    return list(make_loader(pictures, Order(len(pictures), size), model.tokenizer))


def direct(model, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return model(batch.pixel_values, batch.input_ids, batch.attention_mask)


@pytest.mark.parametrize(
    ("method", "stages"),
    [
        ("clipseg/decoder", {"image": True, "text": True}),
        ("clipseg/shallow-vlc", {"image": True, "text": True}),
        ("clipseg/dense-v", {"image": False, "text": True}),
        ("clipseg/dense-vl", {"image": False, "text": False}),
        ("clipseg/full", {"image": False, "text": False}),
        ("clipseg/cocoop", {"image": True, "text": False}),
        ("cris/coop", {"image": True, "text": False}),
    ],
)
def test_cached_logits_are_the_models_own(shapes, method, stages):
    model = build_model(method, "nano")
    for size, check in ((1, torch.equal), (4, lambda a, b: (a - b).abs().max() <= 1e-6 * b.abs().max())):
        cached = CachedModel(model, MemoryStore(10**9), "32", silent)
        assert cached.stages == stages
        for _ in range(2):  # computed, then remembered
            for batch in batches(shapes, model, size):
                assert check(cached(batch).detach(), direct(model, batch))
        assert cached.computed == (10 if stages["image"] else 0) + (1 if stages["text"] else 0)


def test_text_that_depends_on_the_image_is_kept_by_both(shapes):
    model = build_model("clipseg/cocoop", "nano")
    model.requires_grad_(False)
    cached = CachedModel(model, MemoryStore(10**9), "32", silent)
    assert cached.stages == {"image": True, "text": True}
    for _ in range(2):
        for batch in batches(shapes, model, 4):
            torch.testing.assert_close(cached(batch), direct(model, batch))
    assert cached.computed == 20  # one sentence, but of ten images


def test_a_state_that_is_the_image_itself_is_not_kept(shapes, tmp_path):
    model = build_model("san/adapter", "nano", positions=False)
    (batch,) = batches(shapes, model, 10)
    for _ in range(2):  # computed, then read from the disk
        cached = CachedModel(model, DiskStore(tmp_path, 10**9), "32", silent)
        assert cached.stages == {"image": True, "text": True}
        torch.testing.assert_close(cached(batch).detach(), direct(model, batch))
    assert cached.computed == 0
    kept = [tensor for path in tmp_path.iterdir() for tensor in load_file(path).values()]
    assert len(kept) == 21 and not any(tensor.shape == (1, 3, 32, 32) for tensor in kept)


def test_a_state_does_not_depend_on_its_neighbours(shapes):
    model = build_model("clipseg/decoder", "nano")
    alone, together = (CachedModel(model, MemoryStore(10**9), "32", silent) for _ in range(2))
    for cached, size in ((alone, 1), (together, 5)):
        for batch in batches(shapes, model, size, "p3"):
            cached(batch)
    one, other = alone.store._held, together.store._held
    assert one.keys() == other.keys()
    assert all(torch.equal(a, b) for key in one for a, b in zip(one[key], other[key], strict=True))


def test_without_a_store_nothing_is_cached(shapes):
    model = build_model("clipseg/decoder", "nano")
    cached = CachedModel(model, None, "32", silent)
    (batch,) = batches(shapes, model, 10)
    assert torch.equal(cached(batch).detach(), direct(model, batch)) and cached.computed == 0


def test_states_of_other_weights_sizes_or_precisions_are_not_mixed(shapes):
    store = MemoryStore(10**9)
    for weights_hash, size, precision in (("a", 32, "32"), ("b", 32, "32"), ("a", 48, "32"), ("a", 32, "bf16-mixed")):
        model = build_model("clipseg/decoder", "nano", image_size=size)
        model.weights_hash = weights_hash
        pictures = Pictures(read_split(shapes, "train"), Look(size, model.mean, model.std, "p1"))
        batch = next(iter(make_loader(pictures, Order(len(pictures), 4), model.tokenizer)))
        cached = CachedModel(model, store, precision, silent)
        cached(batch)
        assert cached.computed == 5


def test_states_with_and_without_a_context_are_not_mixed(shapes):
    store = MemoryStore(10**9)
    for method in ("cris/coop", "cris/cocoop", "cris/coop"):
        model = build_model(method, "nano")
        pictures = Pictures(read_split(shapes, "train"), Look(model.image_size, model.mean, model.std, "p1"))
        batch = next(iter(make_loader(pictures, Order(len(pictures), 1), model.tokenizer)))
        torch.testing.assert_close(CachedModel(model, store, "32", silent)(batch).detach(), direct(model, batch))


def test_a_full_cache_still_gives_the_right_answer(shapes):
    model = build_model("clipseg/decoder", "nano")
    said: list[str] = []
    state_bytes = model.image_states(torch.zeros(1, 3, 32, 32)).nbytes
    cached = CachedModel(model, MemoryStore(4 * state_bytes), "32", said.append)
    for _ in range(3):
        for batch in batches(shapes, model, 2):
            torch.testing.assert_close(cached(batch).detach(), direct(model, batch))
    assert cached.store.used <= 4 * state_bytes and cached.dropped > 0
    assert len(said) == 1 and "cache_bytes" in said[0]


def test_disk_store_is_kept_limited_and_checked(shapes, tmp_path):
    model = build_model("clipseg/decoder", "nano")
    first = CachedModel(model, DiskStore(tmp_path, 10**9), "32", silent)
    (batch,) = batches(shapes, model, 10)
    logits = first(batch)
    again = CachedModel(model, DiskStore(tmp_path, 10**9), "32", silent)
    assert torch.equal(again(batch), logits) and again.computed == 0
    files = sorted(tmp_path.iterdir())
    assert len(files) == 11 and again.store.used == sum(path.stat().st_size for path in files)
    names = " ".join(path.name for path in files)
    assert not any(word in names for word in ("train", "square"))
    full = DiskStore(tmp_path, again.store.used)
    assert not full.put("more", torch.ones(1)) and full.get("more") is None
    files[0].write_bytes(files[0].read_bytes()[:-1])
    with pytest.raises(UserError, match="is damaged"):
        again.store.get(files[0].stem)


def test_training_with_and_without_the_cache_is_equal_at_equal_batch_shape(shapes, tmp_path, nano):
    trained = []
    for cache in ("off", "memory", "disk"):
        recipe = nano.replace(method="clipseg/shallow-vlc", cache=cache, batch_size=1, max_epochs=2)
        fit(recipe, shapes, tmp_path / cache, say=silent)
        trained.append(load_file(tmp_path / cache / "trained.safetensors"))
        assert not (tmp_path / cache / "state").exists()
    for name, weight in trained[0].items():
        assert torch.equal(trained[1][name], weight) and torch.equal(trained[2][name], weight)


def test_training_with_and_without_the_cache_is_alike_in_batches(shapes, tmp_path, nano):
    losses = []
    for cache in ("off", "memory"):
        recipe = nano.replace(method="clipseg/decoder", cache=cache, max_epochs=2)
        fit(recipe, shapes, tmp_path / cache, say=silent)
        rows = csv.DictReader((tmp_path / cache / "metrics.csv").read_text().splitlines())
        losses.append([float(row[name]) for row in rows for name in ("train_loss", "val_loss")])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_a_cache_folder_serves_the_next_run(shapes, tmp_path, nano):
    recipe = nano.replace(method="clipseg/decoder", cache="disk", cache_folder=str(tmp_path / "states"), max_epochs=1)
    fit(recipe, shapes, tmp_path / "one", say=silent)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "states").iterdir()}
    assert len(written) > 14
    fit(recipe.replace(lr=1e-2), shapes, tmp_path / "two", say=silent)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "states").iterdir()} == written
