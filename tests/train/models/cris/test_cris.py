"""CRIS as a whole: counts to the unit, stages, padding, who trains, runs."""

import pytest
import torch

from vlseg.deploy.errors import UserError
from vlseg.train.loop import open_up
from vlseg.train.models.cris.sizes import CRIS_SIZES
from vlseg.train.models.grafts import trained_parameters, trained_state
from vlseg.train.models.methods import build_model, cacheable, count
from vlseg.train.models.runs import load_run, save_run

PUBLISHED = 146_849_122
RELEASED = {"fidelity": "released"}


def info(method, **options):
    return {"method": method, "size": "nano", "weights": None, "options": options}


def size_of(module):
    return sum(p.numel() for p in module.parameters())


def test_published_counts():
    with torch.device("meta"):
        model = build_model("cris/frozen", "base", weights="random")
    assert size_of(model.clip.visual) == 40_416_096
    assert size_of(model.clip) - size_of(model.clip.visual) == 63_690_241 - 1  # the temperature is not kept
    assert size_of(model.neck) == 24_142_336
    assert size_of(model.decoder) == 12_631_552
    assert size_of(model.proj) == 5_968_897
    assert size_of(model.proj.txt) == 2_362_625
    assert model.total == PUBLISHED


def test_full_trains_all_but_the_temperature_of_clip():
    row = count("cris/full", "base")
    assert row["total"] == PUBLISHED and row["trainable"] == PUBLISHED - 1
    assert row["image_size"] == 416


@pytest.mark.parametrize(
    ("method", "depth", "published"),
    [("coop", 1, 2_048), ("coop", 11, 22_528), ("cocoop", 1, 100_928), ("cocoop", 11, 1_110_208)],
)
def test_learner_counts(method, depth, published):
    with torch.device("meta"):
        model = build_model(f"cris/{method}", "base", weights="random", depth=depth)
    assert size_of(model.learner) == published
    assert model.total == PUBLISHED + published


def test_upsampler_count():
    with torch.device("meta"):
        model = build_model("cris/coop", "base", weights="random", upsampler=True)
    assert sum(p.numel() for p in trained_parameters(model).values()) == 22_528 + 34_370


def test_a_mask_for_each_image_at_any_size_and_batch(frozen, inputs):
    with torch.no_grad():
        both = frozen(*inputs)
        assert both.shape == (2, 1, 64, 64)
        alone = frozen(*(part[:1] for part in inputs))
    torch.testing.assert_close(alone, both[:1])
    wide = build_model("cris/frozen", "nano", image_size=96)
    assert wide(torch.randn(1, 3, 96, 96), *(part[:1] for part in inputs[1:])).shape == (1, 1, 96, 96)


def test_stages_put_together_are_the_forward_pass(frozen, inputs):
    pixels, ids, mask = inputs
    image, text = frozen.image_states(pixels), frozen.text_states(ids, mask)
    maps, words = frozen.image_embedding(image), frozen.text_embedding(text)
    assert len(maps) == len(frozen.image_outputs) and len(words) == len(frozen.text_outputs)
    assert all(len(part) == 2 for part in (*image, *text, *maps, *words))
    assert torch.equal(frozen.decode(maps, words), frozen(*inputs))


def test_padding_takes_no_part_unless_as_released(inputs):
    paper, released = (build_model("cris/full", "nano", fidelity=name) for name in ("paper", "released"))
    pixels, ids, mask = inputs
    other = torch.where(mask == 0, 7, ids)  # other words where the padding is, behind the end token
    with torch.no_grad():
        torch.testing.assert_close(paper(pixels, other, mask), paper(*inputs))
        assert not torch.allclose(released(*inputs), paper(*inputs))
        assert not torch.allclose(released(pixels, other, mask), released(*inputs))
    assert paper.text_states(ids, mask)[1].sum(1).tolist() == mask.sum(1).tolist()
    assert released.text_states(ids, mask)[1].all()


def test_the_published_dropout_is_an_option_and_trains_with_the_decoder():
    model = build_model("cris/full", "nano", dropout=0.5)
    assert {m.p for m in model.decoder.modules() if isinstance(m, torch.nn.Dropout)} == {0.5}
    assert {m.dropout for m in model.decoder.modules() if isinstance(m, torch.nn.MultiheadAttention)} == {0.5}
    assert model.clip.transformer.resblocks[0].attn.dropout == 0
    assert CRIS_SIZES["base"].dropout == 0.2


def steps(model, inputs, count):
    """Train for a few steps; return the names of parameters that ever had a gradient."""
    open_up(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    reached = set()
    for _ in range(count):
        optimizer.zero_grad()
        model(*inputs).square().mean().backward()
        reached |= {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        optimizer.step()
    return reached


@pytest.mark.parametrize(
    ("method", "options"),
    [("full", {}), ("full", {"fidelity": "released"}), ("coop", {"upsampler": True}), ("cocoop", {})],
)
def test_gradients_reach_exactly_what_trains(method, options, inputs):
    model = build_model(f"cris/{method}", "nano", **options)
    assert steps(model, inputs, 3) == set(trained_parameters(model))


def test_a_frozen_part_keeps_its_statistics_and_its_dropout_still(inputs):
    model = build_model("cris/coop", "nano")
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    steps(model, inputs, 2)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert torch.equal(model(*inputs), model(*inputs))


@pytest.mark.parametrize(("method", "image", "text"), [("frozen", True, True), ("full", False, False)])
def test_what_can_be_cached(method, image, text):
    assert cacheable(build_model(f"cris/{method}", "nano")) == {"image": image, "text": text}


def test_one_image_trains(inputs):
    model = build_model("cris/full", "nano")
    open_up(model)
    assert torch.isfinite(model(*(part[:1] for part in inputs))).all()


@pytest.mark.parametrize(
    ("method", "options"), [("full", {"fidelity": "released"}), ("coop", {"depth": 2}), ("cocoop", {})]
)
def test_a_run_gives_the_same_masks_again(method, options, inputs, tmp_path):
    model = build_model(f"cris/{method}", "nano", **options)
    steps(model, inputs, 2)
    model.eval()
    save_run(tmp_path, model, info(f"cris/{method}", **options))
    again, _ = load_run(tmp_path)
    with torch.no_grad():
        assert torch.equal(again(*inputs), model(*inputs))


def test_running_statistics_are_part_of_what_was_trained():
    full, coop = build_model("cris/full", "nano"), build_model("cris/coop", "nano")
    assert any(name.endswith("running_var") for name in trained_state(full))
    assert trained_state(coop).keys() == trained_parameters(coop).keys()


@pytest.mark.parametrize(
    ("size", "options", "says"),
    [
        ("huge", {}, "known: tiny, base, nano"),
        ("base", {}, "vlseg convert"),
        ("nano", {"image_size": 100}, "multiple of 32"),
        ("nano", {"weights": "/no/such/folder"}, "no CRIS weights at"),
        ("nano", {"dropout": 1.0}, "0 to below 1"),
        ("nano", {"fidelity": "old"}, "paper or released"),
        ("nano", {"rank": 3}, "known: dropout, fidelity"),
    ],
)
def test_bad_input(size, options, says):
    with pytest.raises(UserError, match=says):
        build_model("cris/full", size, **options)
