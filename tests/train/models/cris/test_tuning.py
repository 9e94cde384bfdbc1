"""Learned words in CRIS: where each depth enters, and where the released code put it."""

import pytest
import torch

from vlseg.deploy.errors import UserError
from vlseg.train.models.methods import build_model, cacheable


def sentences(model, *texts, length=None):
    return tuple(torch.from_numpy(part) for part in model.tokenizer(texts, length=length))


def states(model, inputs):
    """Return what the text transformer reads and what each block returns, before the next one, each (B, L, W)."""
    seen = [model.clip.token_embedding(inputs[0])]
    seen[0] = seen[0] + model.clip.positional_embedding[: seen[0].shape[1]]
    for block in model.clip.transformer.resblocks:
        seen.append(block(seen[-1]))
    return seen


@pytest.mark.parametrize("fidelity", ["paper", "released"])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_each_depth_enters_behind_its_block(depth, fidelity):
    model = build_model("cris/coop", "nano", depth=depth, tokens=3, fidelity=fidelity)
    ids, _ = sentences(model, "a red polyp", length=77)
    seen, contexts = states(model, (ids,)), model.learner.contexts
    positions = model.clip.positional_embedding[1:4]
    torch.testing.assert_close(seen[0][0, 1:4], contexts[0] + positions)
    # block k, counted from 1, returns depth k; as released, depth k - 1
    shift = 1 if fidelity == "released" else 0
    for k in range(1, 5):
        planted = k - shift < depth
        assert torch.equal(seen[k][0, 1:4], contexts[k - shift]) if planted else True
        if not planted:
            assert not any(torch.equal(seen[k][0, 1:4], context) for context in contexts)


def test_words_for_prompts_are_the_backbones_words():
    """Contexts that are the embeddings of words, at depth 1, do what these words do in the sentence."""
    model, bare = build_model("cris/coop", "nano", phrase="a red", depth=1), build_model("cris/frozen", "nano")
    assert model.text_prompts == len(model.tokenizer(["a red"])[0][0]) - 2
    with torch.no_grad():
        got = model.text_states(*sentences(model, "polyp", "small lesion"))
        want = bare.text_states(*sentences(bare, "a red polyp", "a red small lesion"))
    for mine, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_the_decoder_reads_the_learned_words(inputs):
    model = build_model("cris/coop", "nano", tokens=5)
    _, mask, _ = model.text_states(*inputs[1:])
    assert mask.sum(1).tolist() == (inputs[2].sum(1) + 5).tolist()


@pytest.mark.parametrize("method", ["coop", "cocoop"])
def test_the_image_side_is_cached(method):
    assert cacheable(build_model(f"cris/{method}", "nano")) == {"image": True, "text": False}


def test_words_move_by_the_map_of_their_own_image(inputs):
    model = build_model("cris/cocoop", "nano", depth=1, tokens=3)
    pixels, ids, mask = inputs
    seen = []
    model.clip.token_embedding.register_forward_hook(lambda module, given, out: seen.append(out))
    with torch.no_grad():
        maps = model.image_states(pixels)
        context = model.image_context(maps)
        torch.testing.assert_close(context, maps[2].flatten(2).mean(2))
        model.text_states(ids, mask, context)
        first, _, last, norm = model.learner.maps[0]
        moved = norm((context @ first.weight.T + first.bias).clamp(min=0) @ last.weight.T)
        torch.testing.assert_close(seen[0][:, 1:4], model.learner.contexts[0] + moved[:, None])


def test_the_same_sentence_is_another_of_another_image(inputs):
    model = build_model("cris/cocoop", "nano")
    pixels, ids, mask = inputs
    assert model.text_depends_on_image
    with torch.no_grad():
        context = model.image_context(model.image_states(pixels))
        words, _, _ = model.text_states(ids[:1].expand(2, -1), mask[:1].expand(2, -1), context)
        assert not torch.allclose(words[0], words[1])
        alone, _, _ = model.text_states(ids[:1], mask[:1], context[1:])
    torch.testing.assert_close(alone[0], words[1])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"depth": 5}, "1 to 4 depths"),
        ({"depth": 0}, "not a count"),
        ({"tokens": 75}, "room for 74"),
        ({"tokens": 1, "phrase": "a red polyp"}, "raise or omit it"),
        ({"fidelity": "old"}, "paper or released"),
    ],
)
def test_bad_input(options, says):
    with pytest.raises(UserError, match=says):
        build_model("cris/coop", "nano", **options)
