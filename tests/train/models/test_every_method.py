"""What must hold for every method there is: the list is `METHODS`, so that a new one is held to it too."""

import copy
import re

import pytest
import torch

from vlseg.deploy.annotations import read_split
from vlseg.train.cache import CachedModel, MemoryStore
from vlseg.train.data import Look, Order, Pictures, make_loader
from vlseg.train.models.grafts import trained_parameters
from vlseg.train.models.methods import METHODS, build_model
from vlseg.train.models.parts import facts_of, parts_of, see

TRAINED = [name for name in METHODS if not name.endswith("/frozen")]
STEPS = 3
SILENT = {
    # a key's bias shifts every score of a row alike, so the softmax cannot see it
    "": r"(k_proj|attention\.key)\.bias$",
    # the scale of CLIP's contrast never reaches a mask
    "cris/full": r"logit_scale$",
}
DEPENDS = {"clipseg/cocoop", "cris/cocoop"}


def silent(method: str, model, name: str) -> bool:
    """Say whether a parameter is known to get no gradient."""
    listed = any(re.search(pattern, name) for key, pattern in SILENT.items() if method.startswith(key))
    return listed or name.startswith(getattr(model, "idle", ()))


@pytest.fixture(scope="module")
def built():
    """A nano model of a method, two pictures and two sentences; a copy each time."""
    made: dict[str, tuple] = {}

    def get(name: str):
        if name not in made:
            model = build_model(name, "nano")
            draw = torch.Generator().manual_seed(1)
            pixels = torch.randn(2, 3, model.image_size, model.image_size, generator=draw)
            words = (torch.from_numpy(a) for a in model.tokenizer(["a red polyp", "one small lesion on the left"]))
            made[name] = (model, (pixels, *words))
        model, inputs = made[name]
        return copy.deepcopy(model), inputs

    return get


@pytest.mark.parametrize("name", TRAINED)
def test_training_moves_every_tensor_that_trains_and_no_other(built, name):
    model, inputs = built(name)
    trained, reached = trained_parameters(model), set()
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    mask = (inputs[0][:, :1] > 0).float()
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-3, weight_decay=0, eps=1e-20)
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(model(*inputs), mask).backward()
        reached |= {key for key, p in trained.items() if p.grad is not None and p.grad.any()}
        optimizer.step()
    assert not {key for key in trained if key not in reached and not silent(name, model, key)}
    moved = {key for key, p in model.named_parameters() if not torch.equal(p, before[key])}
    assert moved == reached


@pytest.mark.parametrize("name", METHODS)
def test_cached_states_are_the_models_own_bit_for_bit(built, shapes, name):
    """One picture at a time, so that a state and the model's own pass have the same shapes."""
    model, _ = built(name)
    pictures = Pictures(read_split(shapes, "val")[:2], Look(model.image_size, model.mean, model.std, "p2"))
    cached = CachedModel(model, MemoryStore(10**9), "32", lambda line: None)
    for _ in range(2):  # computed, then remembered
        for batch in make_loader(pictures, Order(2, 1), model.tokenizer):
            with torch.no_grad():
                own = model(batch.pixel_values, batch.input_ids, batch.attention_mask)
                assert torch.equal(cached(batch), own)
    assert cached.computed == 2 * sum(cached.stages.values())


@pytest.mark.parametrize("name", METHODS)
def test_a_prompt_is_a_constant_unless_it_depends_on_the_picture(built, name):
    """What a bundle of fixed prompts keeps is what any picture would be asked with; the manifest says where not."""
    model, (pixels, ids, mask) = built(name)
    assert facts_of(model)["text_depends_on_image"] == (name in DEPENDS)
    parts = parts_of(model)
    with torch.no_grad():
        asked = [parts["text"](ids[:1], mask[:1], *see(model, pixels[i : i + 1]).context) for i in range(2)]
        same = all(torch.equal(one, other) for one, other in zip(*asked, strict=True))
        assert same == (name not in DEPENDS)
        if same:  # and the others need no more of the words than this
            made = dict(zip(parts["text"].outputs, asked[0], strict=True)) | {"pixel_values": pixels[1:]}
            for part in (parts["image"], parts["decoder"]):
                made |= zip(part.outputs, part(*(made[key] for key in part.inputs)), strict=True)
            torch.testing.assert_close(made["logits"], model(pixels[1:], ids[:1], mask[:1]))
