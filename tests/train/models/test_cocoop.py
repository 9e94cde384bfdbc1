"""Words that depend on the image: what they read of it, in every thread its own, and what is kept for it."""

import threading

import numpy as np
import pytest
import torch

from vlseg.train.engine import segmenter_of
from vlseg.train.models.fold import fold
from vlseg.train.models.grafts import trained_parameters
from vlseg.train.models.image_vector import seen
from vlseg.train.models.methods import build_model


@pytest.fixture
def model():
    return build_model("clipseg/cocoop", "nano")


def test_each_row_of_a_prompt_moves_by_the_map_of_its_own_image(model, inputs):
    pixels, ids, mask = inputs
    found = []
    rows, model.learner.rows = model.learner.rows, lambda side, depth: found.append(rows(side, depth)) or found[-1]
    with torch.no_grad():
        context = model.image_context(model.image_states(pixels))
        model.text_states(ids, mask, context)
        for depth, row in enumerate(found):
            first, _, last, norm = model.learner.maps[depth]
            hidden = (context @ first.weight.T + first.bias).clamp(min=0) @ last.weight.T
            moved = torch.nn.functional.layer_norm(hidden, (32,), norm.weight)
            want = model.learner.contexts[depth] + moved[:, None]
            torch.testing.assert_close(row, want)
    assert len(found) == len(model.learner.contexts) == 4 and norm.bias is None and last.bias is None


def test_the_same_sentence_is_another_of_another_image(model, inputs):
    pixels, ids, mask = inputs
    with torch.no_grad():
        context = model.image_context(model.image_states(pixels))
        same = model.text_states(ids[:1].expand(2, -1), mask[:1].expand(2, -1), context)
        assert not torch.allclose(same[0], same[1])
        alone = model.text_states(ids[:1], mask[:1], context[1:])
    torch.testing.assert_close(alone[0], same[1])


def test_normalised_vectors_have_no_length(inputs):
    model = build_model("clipseg/cocoop", "nano", normalise=True)
    context = torch.randn(2, 32)
    with torch.no_grad():
        torch.testing.assert_close(model.text_states(*inputs[1:], context * 7), model.text_states(*inputs[1:], context))


def test_gradients_reach_every_tensor_within_three_steps(model, inputs):
    trained = trained_parameters(model)
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-3)
    reached = set()
    for _ in range(3):
        optimizer.zero_grad()
        model(*inputs).square().mean().backward()
        reached |= {name for name, p in trained.items() if p.grad is not None and p.grad.abs().sum() > 0}
        optimizer.step()
    assert reached == set(trained) and all(name.startswith("learner.") for name in trained)


def test_the_rest_of_the_encoder_is_kept_for_it_alone(model):
    bare = build_model("clipseg/coop", "nano")
    assert bare.image_vector is None and model.image_vector is not None
    assert len(model.image_vector.layers) == 1
    assert model.total == bare.total + sum(p.numel() for n, p in trained_parameters(model).items() if "maps" in n)
    assert model.weights_hash != bare.weights_hash and len(model.weights_hash) == 64


def test_its_prompts_are_not_folded_to_constants(model, inputs):
    before = model.double()(inputs[0].double(), *inputs[1:])
    assert not any("prompts" in phrase for phrase in fold(model))
    torch.testing.assert_close(model(inputs[0].double(), *inputs[1:]), before, rtol=0, atol=1e-12)


def test_outside_of_a_forward_pass_nothing_is_seen(model):
    with pytest.raises(LookupError):
        seen()
    with pytest.raises(LookupError):
        model.learner.rows("text", 0)


def test_threads_see_their_own_images(model):
    segmenter = segmenter_of(model)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (20, 30, 3), dtype=np.uint8) for _ in range(4)]
    expected = [segmenter.logits(image, "polyp") for image in images]
    wrong = []

    def ask(i):
        own = segmenter_of(model)
        for _ in range(5):
            own.forget()
            if not np.allclose(own.logits(images[i], "polyp"), expected[i], atol=1e-6):
                wrong.append(i)

    workers = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong and not np.allclose(expected[0], expected[1], atol=1e-6)
