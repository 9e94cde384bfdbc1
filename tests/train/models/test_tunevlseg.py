"""Prompt learners: counts of the published table, where rows go, and what leaves with a model."""

import copy

import pytest
import torch
import torch.nn.functional as F

from vlseg.deploy.errors import UserError
from vlseg.train.models.fold import fold
from vlseg.train.models.grafts import trained_parameters
from vlseg.train.models.methods import build_model, cacheable, count
from vlseg.train.models.parts import see
from vlseg.train.models.prompts import Place, Upsampler
from vlseg.train.models.room import with_room
from vlseg.train.models.runs import load_run, save_run

LEARNERS = ["coop", "cocoop", "vpt", "maple", "shared-attention", "shared-separate"]
COUNTS = [  # TuneVLSeg at T = 4, widths 512 and 768
    ("coop", {}, 22_528),
    ("coop", {"depth": 1}, 2_048),
    ("cocoop", {}, 749_760),
    ("cocoop", {"depth": 1}, 68_160),
    ("cocoop", {"low_rank": True}, 749_056),
    ("cocoop", {"low_rank": True, "depth": 1}, 68_096),
    ("vpt", {}, 33_792),
    ("vpt", {"depth": 1}, 3_072),
    ("maple", {}, 941_248),
    ("maple", {"depth": 1}, 85_568),
    ("maple", {"low_rank": True}, 940_544),
    ("maple", {"low_rank": True, "depth": 1}, 85_504),
    ("shared-attention", {"feed_forward": 1280, "depth": 1}, 9_848_320),
    ("shared-attention", {"feed_forward": 1280}, 108_331_520),
    ("shared-separate", {}, 918_016),
    ("shared-separate", {"shared": 32}, 466_048),
    ("shared-separate", {"shared": 32, "depth": 1}, 42_368),
    ("coop", {"upsampler": True}, 22_528 + 1_602),
]


def sentences(model, *texts, length=None):
    return tuple(torch.from_numpy(a) for a in model.tokenizer(list(texts), length))


@pytest.mark.parametrize(("name", "options", "expected"), COUNTS)
def test_published_counts(name, options, expected):
    with torch.device("meta"):
        model = build_model(f"clipseg/{name}", "rd64", weights="random", **options)
    assert sum(p.numel() for p in trained_parameters(model).values()) == expected
    assert model.total == 150_693_890 + expected


def test_count_of_decoder_and_upsampler():
    assert count("clipseg/decoder+upsampler", "rd64")["trainable"] == 1_073_153 + 1_602


@pytest.mark.parametrize("size", ["nano", pytest.param("tiny", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", LEARNERS)
def test_gradients_reach_every_tensor(name, size):
    model = build_model(f"clipseg/{name}", size, upsampler=True)
    pixels = torch.randn(2, 3, model.image_size, model.image_size)
    model(pixels, *sentences(model, "a red polyp", "lesion")).square().mean().backward()
    trained = trained_parameters(model)
    silent = {key for key, p in trained.items() if p.grad is None or not p.grad.abs().sum() > 0}
    assert not silent
    contexts = trained["learner.contexts"].grad
    assert contexts is not None and (contexts.abs().sum((1, 2)) > 0).all()  # every depth is read
    assert all(p.grad is None for key, p in model.named_parameters() if key not in trained)


def test_a_depth_that_nothing_reads_gets_no_gradient():
    """Published depths go to the untrimmed encoder's layers; the encoder stops earlier, as it does there."""
    model = build_model("clipseg/vpt", "nano", depth=4)
    assert model.learner.contexts.shape[0] == 4 == len(model.vision.encoder.layers) + 1
    with pytest.raises(UserError, match="1 to 4 depths"):
        build_model("clipseg/vpt", "nano", depth=5)


@pytest.mark.parametrize("name", LEARNERS)
def test_save_and_load(name, tmp_path, inputs):
    model = build_model(f"clipseg/{name}", "nano", upsampler=True)
    for parameter in trained_parameters(model).values():
        torch.nn.init.normal_(parameter)
    options = {"upsampler": True}
    save_run(tmp_path, model, {"method": f"clipseg/{name}", "size": "nano", "weights": None, "options": options})
    again, _ = load_run(tmp_path)
    with torch.no_grad():
        assert torch.equal(again(*inputs), model(*inputs))


@pytest.mark.parametrize("name", LEARNERS)
def test_a_copy_reads_its_own_learner(name, inputs):
    model = build_model(f"clipseg/{name}", "nano")
    other = copy.deepcopy(model)
    with torch.no_grad():
        before = model(*inputs)
        for parameter in trained_parameters(other).values():
            parameter.add_(torch.randn_like(parameter))
        assert torch.equal(model(*inputs), before)
        assert not torch.allclose(other(*inputs), before)


@pytest.mark.parametrize("name", [name for name in LEARNERS if name != "cocoop"])
def test_folding_changes_nothing(name):
    model = build_model(f"clipseg/{name}", "nano", upsampler=True).double()
    pixels, words = torch.randn(2, 3, 32, 32).double(), sentences(model, "polyp", "a red lesion")
    folded = copy.deepcopy(model)
    assert any("learned prompts" in phrase for phrase in fold(folded))
    assert not any("learner" in key for key, _ in folded.named_parameters())
    with torch.no_grad():
        torch.testing.assert_close(folded(pixels, *words), model(pixels, *words), rtol=0, atol=1e-12)


def test_words_for_prompts_are_the_librarys_words():
    """Contexts that are the embeddings of words, at depth 1, do what these words do in the sentence."""
    model, bare = build_model("clipseg/coop", "nano", phrase="a red", depth=1), build_model("clipseg/frozen", "nano")
    tokens = model.text_prompts
    assert tokens == len(model.tokenizer(["a red"])[0][0]) - 2
    with torch.no_grad():
        got = model.text_states(*sentences(model, "polyp", "small lesion"))
        want = bare.text_states(*sentences(bare, "a red polyp", "a red small lesion"))
    torch.testing.assert_close(got, want)


def test_a_full_sentence_leaves_room_for_the_prompts_and_keeps_its_end():
    model, bare = build_model("clipseg/coop", "nano", tokens=5), build_model("clipseg/frozen", "nano")
    whole, _ = sentences(bare, "lesion " * 90)
    ids, mask = sentences(model, "lesion " * 90, "polyp")
    assert ids.shape == (2, 72) and torch.equal(ids[0, :71], whole[0, :71]) and ids[0, -1] == model.tokenizer.end
    assert model.tokenizer.unread("lesion " * 90) and not model.tokenizer.unread("polyp")
    room, room_mask = with_room(ids, mask, 5, 77)
    assert torch.equal(room[:, 6:], ids[:, 1:]) and torch.equal(room[:, 0], ids[:, 0]) and not room[:, 1:6].any()
    assert room_mask[0].all() and room_mask[1].sum() == mask[1].sum() + 5


def test_the_text_runs_at_the_length_of_its_sentences():
    model = build_model("clipseg/maple", "nano")
    lengths = []
    model.text.encoder.register_forward_pre_hook(
        lambda module, given, named: lengths.append(named["inputs_embeds"].shape[1]), with_kwargs=True
    )
    ids, mask = sentences(model, "red polyp", "polyp")
    model.text_states(ids, mask)
    assert lengths == [ids.shape[1] + model.text_prompts] and lengths[0] < 77


def test_a_folded_text_takes_any_77_tokens():
    """An engine of one length pads to 77, and the prompts come on top."""
    model = build_model("clipseg/coop", "nano", tokens=5).double()
    ids, mask = sentences(model, "lesion " * 90)
    folded = copy.deepcopy(model)
    assert "5 more text positions" in fold(folded)
    padded = F.pad(ids, (0, 5), value=model.tokenizer.end), F.pad(mask, (0, 5))
    with torch.no_grad():
        torch.testing.assert_close(folded.text_states(*padded), model.text_states(ids, mask), rtol=0, atol=1e-12)


def test_padding_does_not_reach_back():
    model = build_model("clipseg/maple", "nano")
    short, long = (sentences(model, "red polyp", length=length) for length in (None, 30))
    torch.testing.assert_close(model.text_states(*short), model.text_states(*long))


def test_recorded_states_hold_the_rows_of_each_depth():
    model = build_model("clipseg/vpt", "nano", tokens=3)
    with torch.no_grad():
        states = model.image_states(torch.randn(2, 3, 32, 32))
    assert states.shape == (2, 3, 17 + 3, 32)
    for tap, depth in enumerate((1, 2)):
        torch.testing.assert_close(states[:, tap, -3:], model.learner.contexts[depth].expand(2, -1, -1))
    last = model.vision_taps[-1](states[:, -1])
    torch.testing.assert_close(last[:, -3:], model.learner.contexts[3].expand(2, -1, -1))


def test_logits_come_from_the_patches_alone(inputs):
    """Rows that nothing attends to change no logit: with no learner the frozen model is untouched."""
    model, frozen = build_model("clipseg/vpt", "nano"), build_model("clipseg/frozen", "nano")
    with torch.no_grad():
        text = frozen.text_embedding(frozen.text_states(*inputs[1:]))
        assert torch.equal(model.text_embedding(model.text_states(*inputs[1:])), text)
        image = frozen.image_embedding(frozen.image_states(inputs[0]))
        padded = torch.cat([image, torch.zeros_like(image[:, :, :4])], dim=2)
        assert model.decode(padded, text).shape == frozen.decode(image, text).shape == (2, 1, 32, 32)
        for layer in (*model.library.decoder.layers, *frozen.library.decoder.layers):
            torch.nn.init.zeros_(layer.self_attn.out_proj.weight)  # no token sees another
        torch.testing.assert_close(model.decode(padded, text), frozen.decode(image, text))


@pytest.mark.parametrize(
    ("name", "image", "text"),
    [
        ("coop", True, False),
        ("cocoop", True, False),
        ("vpt", False, True),
        ("maple", False, False),
        ("shared-attention", False, False),
    ],
)
def test_what_can_be_cached_is_what_training_leaves_alone(name, image, text, inputs):
    model = build_model(f"clipseg/{name}", "nano")
    assert cacheable(model) == {"image": image, "text": text}
    with torch.no_grad():
        seen = see(model, inputs[0])
        before = seen.states, model.text_states(*inputs[1:], *seen.context)
        for parameter in trained_parameters(model).values():
            parameter.add_(torch.randn_like(parameter))
        seen = see(model, inputs[0])
        after = seen.states, model.text_states(*inputs[1:], *seen.context)
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [image, text]


@pytest.mark.parametrize(("fidelity", "coupled"), [("paper", True), ("released", False)])
def test_only_the_paper_lets_prompts_attend_to_each_other(fidelity, coupled):
    model = build_model("clipseg/shared-attention", "nano", fidelity=fidelity)
    with torch.no_grad():
        before = model.learner.rows("text", 0)
        model.learner.contexts[0, 1].mul_(-3)
        changed = (model.learner.rows("text", 0) - before).abs().amax(1) > 1e-6
    assert changed.tolist() == [coupled, True, coupled, coupled]


@pytest.mark.parametrize(
    ("name", "fidelity", "expected"),
    [
        ("maple", "released", "mix"),
        ("vpt", "released", "add"),
        ("coop", "released", "unused"),
        ("cocoop", "released", "unused"),
        ("coop", "paper", "mix"),
    ],
)
def test_upsampler(name, fidelity, expected):
    model = build_model(f"clipseg/{name}", "nano", upsampler=True, fidelity=fidelity)
    upsampler = model.library.decoder.transposed_convolution
    assert isinstance(upsampler, Upsampler)
    picture = torch.randn(2, 16, 4, 4)
    with torch.no_grad():
        old = upsampler.pretrained(picture)
        large = torch.nn.functional.interpolate(picture, size=(32, 32), mode="bilinear")
        new = upsampler.conv(large)
        upsampler.ratio.fill_(0.25)
        want = {"mix": 0.75 * old + 0.25 * new, "add": old + new, "unused": old}[expected]
        torch.testing.assert_close(upsampler(picture), want)


def test_unified_projection_and_phrase():
    model = build_model("clipseg/maple", "nano", unified=True, phrase="a red", tokens=9)
    assert len(model.learner.vision) == 1 and model.text_prompts == 9
    ids = sentences(model, "a red")[0][0, 1:-1]
    embedded = model.text.embeddings.token_embedding.inner(ids)
    assert torch.equal(model.learner.contexts[0, : len(ids)], embedded)
    assert len([m for m in model.modules() if isinstance(m, Place)]) == 8


@pytest.mark.parametrize("name", ["coop", pytest.param("maple", marks=pytest.mark.slow)])
def test_text_exports_with_any_batch_and_length(name):
    model = build_model(f"clipseg/{name}", "nano").requires_grad_(False)
    model.library.set_attn_implementation("eager")
    fold(model)
    axes = {0: torch.export.Dim("batch", min=1, max=1024), 1: torch.export.Dim("length", min=2, max=77)}
    model.forward = model.text_states
    with torch.no_grad():
        example = sentences(model, "a red polyp", "lesion")
        program = torch.export.export(model, example, dynamic_shapes=(axes, axes), strict=False).module()
        for words in (sentences(model, ""), sentences(model, "polyp " * 90, "one " * 60, "red")):
            torch.testing.assert_close(program(*words), model.text_states(*words))


@pytest.mark.slow
def test_image_exports_with_any_batch():
    model = build_model("clipseg/shared-attention", "nano").requires_grad_(False)
    fold(model)
    model.forward = lambda pixels: model.image_embedding(model.image_states(pixels))
    with torch.no_grad():
        axes = ({0: torch.export.Dim("batch", min=1, max=1024)},)
        program = torch.export.export(model, (torch.randn(2, 3, 32, 32),), dynamic_shapes=axes, strict=False).module()
        pixels = torch.randn(5, 3, 32, 32)
        torch.testing.assert_close(program(pixels), model(pixels))


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("coop", {"depth": 9}, "1 to 4 depths"),
        ("coop", {"depth": 0}, "from 1 on"),
        ("vpt", {"tokens": 1.5}, "from 1 on"),
        ("coop", {"tokens": 75}, "room for 74"),
        ("coop", {"phrase": "word " * 80}, "room for 74"),
        ("coop", {"phrase": "a red polyp", "tokens": 2}, "raise or omit"),
        ("coop", {"phrase": ""}, "at least one word"),
        ("vpt", {"phrase": "a"}, "known: depth"),
        ("shared-attention", {"heads": 7}, "does not divide the width 64"),
        ("shared-attention", {"dropout": 1.0}, "0 to below 1"),
        ("shared-separate", {"tokens": 99}, "room for 74"),
        ("maple", {"fidelity": "mine"}, "paper or released"),
    ],
)
def test_bad_input(name, options, says):
    with pytest.raises(UserError, match=says):
        build_model(f"clipseg/{name}", "nano", **options)
