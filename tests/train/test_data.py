import numpy as np
import pytest
import torch
from PIL import Image

from vlseg.deploy.annotations import Sample, read_split
from vlseg.deploy.errors import UserError
from vlseg.deploy.pixels import read_image, read_mask, to_input
from vlseg.train.data import Look, Order, Pictures, make_loader, read_picture
from vlseg.train.models.methods import build_model

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def look(**changes) -> Look:
    return Look(**{"image_size": 32, "mean": MEAN, "std": STD, "prompt": "random", "seed": 5} | changes)


@pytest.mark.parametrize("size", [32, 50, 97])
def test_a_kept_picture_is_what_the_runtime_sees(shapes, size):
    sample = read_split(shapes, "train")[0]
    picture = read_picture(sample, size)
    assert picture.pixels.dtype == np.uint8
    assert np.array_equal(
        to_input(picture.pixels, size, MEAN, STD), to_input(read_image(sample.image), size, MEAN, STD)
    )
    mask = read_mask(sample.mask)
    rows, columns = (((np.arange(size) + 0.5) * side / size).astype(int) for side in mask.shape)
    assert np.array_equal(picture.mask, mask[rows][:, columns])


def test_image_and_mask_of_different_sizes(tmp_path):
    Image.new("RGB", (8, 9)).save(tmp_path / "a.png")
    Image.new("L", (9, 8)).save(tmp_path / "b.png")
    with pytest.raises(UserError, match="expected equal sizes"):
        read_picture(Sample(tmp_path / "a.png", tmp_path / "b.png", {"p0": ""}, "a"), 16)


def test_prompts_are_drawn_by_seed_epoch_and_name(shapes):
    train = Pictures(read_split(shapes, "train"), look())
    drawn = [[train[epoch, i].prompt for i in range(len(train))] for epoch in (0, 1, 0)]
    assert drawn[0] == drawn[2] != drawn[1]
    assert "" not in drawn[0] + drawn[1] and len(set(drawn[0] + drawn[1])) == 5
    held_out = Pictures(read_split(shapes, "val"), look(seed=None))
    assert [held_out[3, i].prompt for i in range(4)] == [held_out[0, i].prompt for i in range(4)]


def test_augmented_examples_replay(shapes):
    train = Pictures(read_split(shapes, "train"), look(augment=True))
    first, again, later = train[2, 1], train[2, 1], train[3, 1]
    assert torch.equal(first.pixel_values, again.pixel_values) and first.prompt == again.prompt
    assert not torch.equal(first.pixel_values, later.pixel_values)


def test_memory_holds_what_fits(shapes, monkeypatch):
    reads = []
    monkeypatch.setattr(
        "vlseg.train.data.read_picture", lambda sample, size: reads.append(sample.name) or read_picture(sample, size)
    )
    train = Pictures(read_split(shapes, "train"), look(), keep_bytes=3 * 4 * 32 * 32)
    assert train.read_all(print) == 10
    assert train.read_all(print) == 10
    assert len(reads) == 10 + 7


@pytest.mark.parametrize(("size", "batch", "world"), [(10, 4, 2), (9, 4, 2), (13, 6, 3), (12, 4, 4), (1, 2, 2)])
def test_processes_share_the_batches_of_one(size, batch, world):
    alone = Order(size, batch, seed=7)
    orders = [Order(size, batch, seed=7, rank=rank, world_size=world) for rank in range(world)]
    for order in (alone, *orders):
        order.set_epoch(2)
    whole, parts = list(alone), [list(order) for order in orders]
    steps = -(-size // batch)
    assert sorted(position for _, position in whole) == list(range(size)) and {epoch for epoch, _ in whole} == {2}
    for step in range(steps):
        batches = [part[step * batch // world : (step + 1) * batch // world] for part in parts]
        assert all(batches)  # every process takes part in every step
        counted = [pair for order, b in zip(orders, batches, strict=True) for pair in b[: order.share(step)[0]]]
        assert sorted(counted) == sorted(whole[step * batch : (step + 1) * batch])
        assert {order.share(step)[1] for order in orders} == {len(counted)}


def test_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        made = Order(50, 8, seed=seed)
        made.set_epoch(epoch)
        return list(made)

    assert order(1, 3) == order(1, 3)
    assert len({tuple(position for _, position in order(seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4
    still = Order(5, 2)
    still.set_epoch(9)
    assert list(still) == [(0, i) for i in range(5)]


def test_batches_are_padded_to_their_longest(shapes):
    model = build_model("clipseg/frozen", "nano")
    train = Pictures(read_split(shapes, "train"), look())
    order = Order(len(train), 4, seed=0)
    batches = list(make_loader(train, order, model.tokenizer))
    assert [len(batch.names) for batch in batches] == [4, 4, 2]
    first = batches[0]
    ids, mask = model.tokenizer(first.prompts)
    assert np.array_equal(first.input_ids, ids) and np.array_equal(first.attention_mask, mask)
    assert first.pixel_values.shape == (4, 3, 32, 32) and first.pixel_values.dtype == torch.float32
    assert first.mask.shape == (4, 1, 32, 32) and set(first.mask.unique().tolist()) == {0.0, 1.0}
    bare = next(iter(make_loader(train, order, None)))
    assert bare.input_ids.shape == (4, 0)


def test_workers_give_the_same(shapes):
    model = build_model("clipseg/frozen", "nano")
    train = Pictures(read_split(shapes, "train"), look(augment=True))
    loaders = [make_loader(train, Order(len(train), 4, seed=0), model.tokenizer, workers) for workers in (0, 1)]
    for here, there in zip(*loaders, strict=True):
        assert torch.equal(here.pixel_values, there.pixel_values) and here.prompts == there.prompts
