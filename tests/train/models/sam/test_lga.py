"""LGA: published counts, gradients and what is blind, exact forms against naive ones, reports and their absence."""

import copy

import pytest
import torch
from safetensors.torch import load_file

from vlseg.deploy.errors import UserError
from vlseg.kernels import ops, reference
from vlseg.train.decay import parameter_groups
from vlseg.train.models.grafts import learning_parameters, trained_parameters
from vlseg.train.models.methods import build_model, cacheable, count
from vlseg.train.models.runs import TRAINED, load_run, save_run
from vlseg.train.models.sam.lga import LgaOptions, places_of

LONG = "Bilateral pulmonary infection, two infected areas, upper left lung and upper right lung"


def lga(size="nano", **options):
    return build_model("sam/lga", size, **options)


def given(model, *texts):
    side = model.image_size
    texts = texts or (LONG, "one small lesion")
    ids, mask = (torch.from_numpy(array) for array in model.tokenizer(list(texts)))
    return torch.randn(len(texts), 3, side, side, dtype=model.positions.dtype), ids, mask


def stirred(model, seed=0):
    """The model with every trained tensor moved away from where it starts: gates open, no weight zero."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trained_parameters(model).values():
            parameter.add_(torch.randn(parameter.shape, generator=draw).to(parameter) * 0.2)
    return model


def counted(**options):
    with torch.device("meta"):
        model = build_model("sam/lga", "base", weights="random", **options)
    return sum(parameter.numel() for parameter in trained_parameters(model).values())


def test_counts_of_table_4():
    published = [4_058_340, 4_655_556, 5_849_220, 7_042_884, 8_236_548, 9_430_212]
    assert [counted(n_ffm=n) for n in range(6)] == published


def test_counts_of_tables_2_and_3():
    assert counted(text_mlp=False, vision_mlp=False) == 6_154_692
    assert counted(text_mlp=False) == 7_344_324
    assert counted(text="none") == 8_237_316


def test_the_count_of_each_part():
    with torch.device("meta"):
        fusion = build_model("sam/lga", "base", weights="random").fusions["4"]
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in fusion.named_children()}
    assert sizes == {"extractor": 596_448, "injector": 597_216}
    blind = {name: p for name, p in fusion.named_parameters() if name.startswith(fusion.idle)}
    assert sum(p.numel() for p in blind.values()) == 149_184


def test_the_row_of_vlseg_methods():
    row = count("sam/lga", "base")
    assert row["trainable"] == 8_236_548 and row["image_size"] == 1024 and row["cached"] == ["image", "text"]
    assert row["total"] == 93_735_728 + 108_891_648 + 8_236_548 - 4_058_340


def test_a_wider_encoder_gets_a_projection_of_the_text():
    with torch.device("meta"):
        model = build_model("sam/lga", "vit-l", weights="random")
    assert model.report.project.weight.shape == (1024, 768)


@pytest.mark.parametrize(("n", "places"), [(1, [12]), (2, [0, 12]), (3, [0, 6, 12]), (4, [0, 4, 8, 12])])
def test_where_modules_sit(n, places):
    assert places_of(LgaOptions(n_ffm=n), 12) == places
    assert places_of(LgaOptions(n_ffm=5), 12) == [0, 3, 6, 9, 12]
    assert places_of(LgaOptions(n_ffm=3, places="2,7"), 12) == [2, 7, 12]


def reached(model, steps=1):
    found = set()
    for _ in range(steps):
        model.zero_grad()
        model(*given(model)).square().mean().backward()
        found |= {name for name, p in trained_parameters(model).items() if p.grad is not None and p.grad.any()}
    return found


BLIND = ("injector.attention.query.", "injector.attention.key.", "injector.vision_norm.")


@pytest.mark.parametrize("tokens", ["mean", "all"])
def test_who_gets_a_gradient(tokens):
    """With one token the vision half is blind to the position: its query, key and norm learn nothing, and are left."""
    model = stirred(lga(text_tokens=tokens))
    trained, seen = trained_parameters(model), reached(model)
    # a key's bias shifts every score of a row alike, so the softmax cannot see it
    silent = {name for name in set(trained) - seen if not name.endswith(("key.bias", "k_proj.bias"))}
    heads = ("iou_prediction_head", *(f"hypernetworks_mlps.{i}" for i in (1, 2, 3)))
    blind = {name for name in silent if any(part in name for part in BLIND)}
    assert bool(blind) == (tokens == "mean") and all(any(h in name for h in heads) for name in silent - blind)
    dead = {name for name in silent if name not in learning_parameters(model)}
    assert silent == dead and not any(name.endswith("key.bias") for name in silent)
    if tokens == "mean":
        assert len(blind) == 4 * 5  # two weights and a bias, and two of the norm, of four modules
    assert all(p.grad is None for name, p in model.named_parameters() if name not in trained)


def test_what_is_blind_is_left_out_of_the_optimiser_and_saved_all_the_same(tmp_path):
    model = lga(seed=3)
    held = {id(p) for group in parameter_groups(model, "all") for p in group["params"]}
    names = {name for name, p in trained_parameters(model).items() if id(p) not in held}
    assert names and all(name.startswith(model.idle) for name in names)
    assert any("injector.attention.query" in name for name in names)
    save_run(tmp_path, stirred(model), {"method": "sam/lga", "size": "nano", "weights": None, "options": {}})
    bytes_of = sum(p.numel() for p in trained_parameters(model).values()) * 4
    assert bytes_of < (tmp_path / TRAINED).stat().st_size < bytes_of + 40_000
    again, _ = load_run(tmp_path)
    inputs = given(model)
    with torch.no_grad():
        torch.testing.assert_close(again(*inputs), model(*inputs), rtol=0, atol=0)


def test_the_saved_file_at_the_published_size_holds_the_trained_part_alone(tmp_path):
    """33 MB, and as halves 16.5, beside 800 MB that stay frozen."""
    with torch.device("meta"):
        model = build_model("sam/lga", "base", weights="random")
    model.to_empty(device="cpu")  # pages that nobody touches cost nothing
    with torch.no_grad():
        for parameter in trained_parameters(model).values():
            parameter.zero_()
    info = {"method": "sam/lga", "size": "base", "weights": "random", "options": {}}
    for stored, megabytes in (("float32", 33.0), ("float16", 16.5)):
        save_run(tmp_path, model, info | {"stored": stored})
        size = (tmp_path / TRAINED).stat().st_size
        assert (
            size == pytest.approx(megabytes * 1e6, rel=0.005) and size < 8_236_548 * (4, 2)[stored == "float16"] + 4e4
        )
        assert load_file(tmp_path / TRAINED).keys() == trained_parameters(model).keys()


@pytest.mark.parametrize("texts", [(LONG, "one"), ("one small lesion", "")])
def test_tokens_behind_the_longest_sentence_are_left_out_and_nobody_notices(texts, monkeypatch):
    model = stirred(lga(text_tokens="all", text="optional")).double().eval()
    inputs = given(model, *texts)
    text = model.text_embedding(model.text_states(*inputs[1:]))
    tokens, real = model.heard(text)
    assert tokens.shape[1] == real.shape[1] == int(real.sum(1).max()) < text[0].shape[1] == 32
    with torch.no_grad():
        short = model.image_embedding(model.image_states(inputs[0]), text)
        monkeypatch.setattr(model, "heard", lambda text: (text[0], text[1] > 0.5))
        torch.testing.assert_close(model.image_embedding(model.image_states(inputs[0]), text), short, rtol=0, atol=1e-9)


def test_the_degenerate_gradients_are_zero_in_the_naive_form():
    width, inner = 16, 4
    shapes = ((inner, width), (inner,)) * 3 + ((width, inner), (width,))
    attention = ops.Attention(*(torch.randn(shape).double().requires_grad_() for shape in shapes))
    norm = ops.Norm(torch.randn(width).double().requires_grad_(), torch.randn(width).double().requires_grad_())
    text_norm = ops.Norm(torch.ones(width).double(), torch.zeros(width).double())
    vision, gamma = torch.randn(2, 9, width).double(), torch.randn(width).double()
    for tokens in (1, 3):
        text = torch.randn(2, tokens, width).double()
        out = reference.gated_cross_attention(vision, text, attention, norm, text_norm, gamma)
        blind = (attention.query_weight, attention.query_bias, attention.key_weight, norm.weight, norm.bias)
        grads = torch.autograd.grad((out * torch.randn_like(out)).sum(), blind)
        assert all(bool(grad.abs().max() > 1e-6) == (tokens > 1) for grad in grads)


def naive(vision, text, module, mask):
    """A fusion module as the equations are written, from plain pieces."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ops, "text_pooling", lambda *a, heads, impl: reference.text_pooling(*a, heads=heads))
        patch.setattr(
            ops,
            "gated_cross_attention",
            lambda *a, heads, mask, impl: reference.gated_cross_attention(*a, heads=heads, mask=mask),
        )
        return module(vision, text, mask)


@pytest.mark.parametrize("tokens", [1, 2, 5])
def test_naive_and_exact_forms_agree_forward_and_backward(tokens):
    model = stirred(lga(text_tokens="mean" if tokens == 1 else "all", inner=8)).double()
    module = model.fusions["1"]
    vision = torch.randn(2, 4, 4, 32).double().requires_grad_()
    text = torch.randn(2, tokens, 32).double().requires_grad_()
    mask = None if tokens == 1 else torch.arange(tokens) < torch.tensor([[tokens], [1]])
    leaves = [vision, text, *module.parameters()]
    weights = torch.randn(2, 4, 4, 32).double()
    results = [one(vision, text, mask) for one in (module, lambda v, t, m: naive(v, t, module, m))]
    for mine, its in zip(*results, strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=1e-12)
    grads = [torch.autograd.grad((v * weights).sum() + t.square().sum(), leaves, allow_unused=True) for v, t in results]
    for mine, its in zip(*grads, strict=True):
        its = torch.zeros_like(leaves[0]) if its is None else its
        torch.testing.assert_close(torch.zeros_like(its) if mine is None else mine, its, rtol=1e-9, atol=1e-10)


def test_a_closed_gate_leaves_the_attention_out():
    model = lga()
    inputs = given(model)
    with torch.no_grad():
        before = model(*inputs)
        for fusion in model.fusions.values():
            for parameter in fusion.injector.attention.parameters():
                parameter.normal_()
        torch.testing.assert_close(model(*inputs), before, rtol=0, atol=0)
        model.fusions["4"].injector.gamma.fill_(1)
        assert (model(*inputs) - before).abs().max() > 1e-4


@pytest.mark.parametrize("options", [{"gate_mlp": True}, {"zero_mlp": True}])
def test_a_module_can_start_as_the_identity(options):
    frozen, model, published = build_model("sam/decoder", "nano"), lga(**options), lga()
    inputs = given(model)
    with torch.no_grad():
        torch.testing.assert_close(model(*inputs), frozen(*inputs), rtol=1e-5, atol=1e-6)
        assert (published(*inputs) - frozen(*inputs)).abs().max() > 1e-5


def test_the_answer_depends_on_the_sentence_and_not_on_its_neighbours():
    for tokens in ("mean", "all"):
        model = stirred(lga(text_tokens=tokens))
        pixels, ids, mask = given(model, LONG, "one small lesion")
        pixels = pixels[:1].expand(2, -1, -1, -1)
        with torch.no_grad():
            both = model(pixels, ids, mask)
            alone = model(pixels[:1], *given(model, "one small lesion")[1:])
        torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-4)
        assert (both[0] - both[1]).abs().max() > 0.05 * both.std()


def test_switches_of_the_ablations():
    inputs = None
    for options in ({}, {"text_cross": False}, {"text_mlp": False}, {"vision_mlp": False}, {"heads": 2}, {"n_ffm": 1}):
        model = stirred(lga(**options))
        inputs = inputs or given(model)
        assert model(*inputs).shape == (2, 1, 64, 64)
    one_half = lga(text_cross=False, text_mlp=False)
    assert all(fusion.extractor is None for fusion in one_half.fusions.values())


def test_a_learned_query_stands_for_an_empty_report():
    model = stirred(lga(text="optional"))
    pixels, ids, mask = given(model, "", LONG)
    with torch.no_grad():
        tokens = model.text_embedding(model.text_states(ids, mask))
    torch.testing.assert_close(tokens[0, 0], model.report.query.token, rtol=0, atol=0)
    assert not torch.allclose(tokens[1, 0], model.report.query.token)
    model(pixels, ids, mask).square().mean().backward()
    assert model.report.query.token.grad.abs().sum() > 0
    several = stirred(lga(text="optional", text_tokens="all"))
    with torch.no_grad():
        tokens, there = several.text_embedding(several.text_states(ids, mask))
    torch.testing.assert_close(tokens[0, 0], several.report.query.token, rtol=0, atol=0)
    assert there[0].sum() == 1 and there[1].sum() == 15


def test_training_leaves_reports_out_so_that_the_query_learns():
    model = lga(text="optional", text_drop=0.5)
    query = model.report.query.train()
    torch.manual_seed(0)
    text, there = torch.randn(64, 1, 32), torch.ones(64, 1)
    out, _ = query(text, there)
    left = (out == query.token).all(-1).float().mean()
    assert 0.3 < left < 0.7
    assert torch.equal(query.eval()(text, there)[0], text)


def test_without_text_the_query_is_all_there_is():
    model = stirred(lga(text="none"))
    assert not model.image_depends_on_text and model.report.reader is None
    pixels, ids, mask = given(model)
    with torch.no_grad():
        assert torch.equal(model(pixels, ids, mask), model(pixels, ids.flip(0), mask))
    model(pixels, ids, mask).square().mean().backward()
    assert model.report.query.token.grad.abs().sum() > 0


def test_checkpointing_changes_no_gradient():
    plain, saving = stirred(lga()), stirred(lga(checkpointing=True))
    torch.manual_seed(1)
    inputs = given(plain)
    for model in (plain, saving):
        model(*inputs).square().mean().backward()
    for (name, mine), its in zip(trained_parameters(saving).items(), trained_parameters(plain).values(), strict=True):
        torch.testing.assert_close(mine.grad, its.grad, rtol=1e-5, atol=1e-7, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize(("n", "below"), [(0, 4), (1, 4), (4, 0)])
def test_what_lies_below_the_first_module_is_computed_once(n, below):
    model = lga(n_ffm=n)
    assert cacheable(model) == {"image": True, "text": True}
    assert sum("layers." in name for name in model.prefixes["image"]) == (below if n else 0)
    moved = copy.deepcopy(model)
    pixels, ids, mask = given(model)
    with torch.no_grad():
        states = model.image_states(pixels), model.text_states(ids, mask)
        after = stirred(moved).image_states(pixels)
        torch.testing.assert_close(states[0], after, rtol=0, atol=0)
        torch.testing.assert_close(model.answer(*states), model(pixels, ids, mask), rtol=0, atol=0)


def test_released_pixels_are_not_normalised():
    assert lga(fidelity="released").mean == (0, 0, 0) and lga().mean != (0, 0, 0)


def test_the_reader_is_the_same_whatever_the_seed():
    first, second = lga(seed=1), lga(seed=2)
    assert first.weights_hash == second.weights_hash != build_model("sam/decoder", "nano").weights_hash
    assert not torch.equal(first.fusions["0"].extractor.mlp.up.weight, second.fusions["0"].extractor.mlp.up.weight)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n_ffm": 6}, "n_ffm = 6 is out of range: expected a whole number from 0 to 5"),
        ({"n_ffm": -1}, "n_ffm = -1 is out of range"),
        ({"places": "0,4,9"}, "places 0, 4, 9 do not fit n_ffm = 4: expected 3 different layers from 0 to 3"),
        ({"places": "0,1"}, "expected 3 different layers"),
        ({"places": "one"}, "no list of layers"),
        ({"heads": 3}, "inner = 4 is not a multiple of heads = 3"),
        ({"text": "maybe"}, "expected report, optional or none"),
        ({"text_tokens": "some"}, "expected mean or all"),
        ({"text_limit": 0}, "expected 1 to 75 words"),
        ({"ratio": 0}, "expected above 0"),
        ({"text_drop": 1.0}, "expected 0 to below 1"),
        ({"fidelity": "exact"}, "expected paper or released"),
    ],
)
def test_bad_input(options, says):
    with pytest.raises(UserError, match=says):
        lga(**options)


@pytest.mark.parametrize("n", [1, 4])
def test_the_operators_are_given_rows_that_lie_side_by_side(n):
    """The fused kernels refuse others; the patch embedding comes from a convolution, its channels far apart."""
    model, seen = lga(n_ffm=n), []
    for fusion in model.fusions.values():
        fusion.register_forward_pre_hook(lambda module, given: seen.append(given[0].flatten(1, 2).stride()))
    model(*given(model))
    assert seen == [(512, 32, 1)] * n
