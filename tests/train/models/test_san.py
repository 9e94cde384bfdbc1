"""The side adapter: its published count, its pieces against naive forms, and what the released code makes of it."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import CLIPModel

from vlseg.deploy.errors import UserError
from vlseg.train.models.grafts import trained_parameters
from vlseg.train.models.methods import build_model, cacheable, count
from vlseg.train.models.runs import TRAINED, load_run, save_run
from vlseg.train.models.san.fusion import Fusion
from vlseg.train.models.san.masks import MaskHead
from vlseg.train.models.san.sizes import SAN_SIZES, config_of

EXACT = {"rtol": 0, "atol": 1e-12}


def san(size="nano", **options):
    return build_model("san/adapter", size, **options)


def words(model, *texts):
    return tuple(torch.from_numpy(a) for a in model.tokenizer(list(texts)))


def given(model):
    side = model.image_size
    return torch.randn(2, 3, side, side), *words(model, "a red polyp", "one small lesion on the left")


def size_of(*parameters):
    return sum(p.numel() for p in parameters)


def test_the_published_count():
    row = count("san/adapter", "base")
    assert row["trainable"] == 8_370_354
    assert row["total"] == 149_620_737 + 8_219_058 and row["image_size"] == 640


def test_the_count_of_each_part():
    with torch.device("meta"):
        model = san("base", weights="random")
    side, masks = model.side, model.masks
    assert size_of(*side.embed.parameters()) == 184_560
    assert size_of(side.positions) == 384_000
    assert [size_of(*layer.parameters()) for layer in side.layers] == [694_320] * 8
    assert size_of(side.queries, side.query_positions) == 48_000
    assert size_of(*side.fusions.parameters()) == 744_384
    assert size_of(*masks.parameters()) == 1_303_554 and size_of(*masks.bias.parameters()) == 916_992
    assert size_of(*model.vision.embeddings.position_embedding.parameters()) == 151_296


def test_the_released_code_trains_fewer_than_it_counts():
    with torch.device("meta"):
        model = san("base", weights="random", fidelity="released")
    trained = trained_parameters(model)
    assert size_of(*trained.values()) == 8_370_354
    assert size_of(*(p for name, p in trained.items() if not silent(name, 3))) == 7_115_968


def silent(name, dead_fusion):
    """Parameters that the released code gives no gradient."""
    behind = ("library.vision_model.embeddings.position", "masks.bias.", "masks.rescale.")
    return name.startswith((*behind, f"side.fusions.{dead_fusion}."))


@pytest.mark.parametrize("fidelity", ["paper", "released"])
def test_who_gets_a_gradient_within_three_steps(fidelity):
    model = san(fidelity=fidelity)
    inputs, trained, reached = given(model), trained_parameters(model), set()
    optimizer = torch.optim.SGD(trained.values(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(*inputs).square().mean().backward()
        reached |= {name for name, p in trained.items() if p.grad is not None and p.grad.any()}
        optimizer.step()
    # a key's bias shifts every score of a row alike, so the softmax cannot see it
    missing = {name for name in set(trained) - reached if "k_proj.bias" not in name}
    assert missing == {name for name in trained if fidelity == "released" and silent(name, 2)}
    assert all(p.grad is None for name, p in model.named_parameters() if name not in trained)


def test_what_is_fused_where():
    with torch.device("meta"):
        paper = san("base", weights="random").side.sources
        released = san("base", weights="random", fidelity="released").side.sources
    assert paper == {0: 0, 1: 3, 2: 6, 3: 9}
    assert released == {0: 0, 3: 1, 6: 2, 9: 3}  # the adapter has 8 layers: position 9 is never reached


def test_the_released_answer_differs():
    paper, released = san(), san(fidelity="released")
    released.load_state_dict(paper.state_dict())
    inputs = given(paper)
    with torch.no_grad():
        difference = paper(*inputs) - released(*inputs)
    assert difference.abs().max() > 1e-3


def test_regions_without_bias_are_clips_image_embedding():
    """A copy of the class token that sees itself and all patches is the class token."""
    model = san().double()
    torch.manual_seed(0)
    whole = CLIPModel(config_of("nano")).eval().double()
    state = model.library.state_dict()
    for name, tensor in model.recognition.layers.state_dict().items():
        index, _, rest = name.partition(".")
        state[f"vision_model.encoder.layers.{int(index) + model.first}.{rest}"] = tensor
    state |= {f"vision_model.post_layernorm.{k}": v for k, v in model.recognition.norm.state_dict().items()}
    state |= {f"visual_projection.{k}": v for k, v in model.recognition.project.state_dict().items()}
    whole.load_state_dict(state, strict=True)
    pixels, ids, mask = given(model)
    pixels = pixels.double()
    half = F.interpolate(pixels, scale_factor=0.5, mode="bilinear", align_corners=False)
    with torch.no_grad():
        theirs = whole.get_image_features(half, interpolate_pos_encoding=True).pooler_output
        _, taken = model.image_states(pixels)
        ours = model.recognition(taken[:, -1], torch.zeros(2, 2, 3, 16).double())
        torch.testing.assert_close(ours, F.normalize(theirs, dim=-1)[:, None].expand(-1, 3, -1), **EXACT)
        text = whole.get_text_features(ids, attention_mask=mask).pooler_output
        torch.testing.assert_close(model.text_states(ids, mask), text, **EXACT)


def naive_region(recognition, state, bias):
    """One proposal of one image: `state` (1 + n, D), `bias` (heads, n)."""
    copy_of_class = state[0]
    for layer in recognition.layers:
        attention = layer.self_attn
        heads, width = attention.num_heads, attention.head_dim
        seen = layer.layer_norm1(torch.cat([copy_of_class[None], state[1:]]))
        query, key, value = attention.q_proj(seen[0]), attention.k_proj(seen), attention.v_proj(seen)
        mixed = []
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            scores = key[:, part] @ query[part] / math.sqrt(width)
            scores = torch.cat([scores[:1], scores[1:] + bias[head]])
            mixed.append(scores.softmax(0) @ value[:, part])
        copy_of_class = copy_of_class + attention.out_proj(torch.cat(mixed))
        copy_of_class = copy_of_class + layer.mlp(layer.layer_norm2(copy_of_class))
        state = layer(state[None], None)[0]
    region = recognition.project(recognition.norm(copy_of_class))
    return region / region.norm()


def test_recognition_is_one_proposal_at_a_time():
    model = san().double()
    state, biases = torch.randn(2, 17, 32).double(), 3 * torch.randn(2, 2, 3, 16).double()
    with torch.no_grad():
        got = model.recognition(state, biases)
        for image in range(2):
            for proposal in range(3):
                want = naive_region(model.recognition, state[image], biases[image, :, proposal])
                torch.testing.assert_close(got[image, proposal], want, **EXACT)


def test_gradients_pass_the_attention_mask():
    """The fused attention gives the bias the gradient that the written-out one gives it."""
    fused, eager = san().double(), san().double()
    eager.library.set_attn_implementation("eager")
    gradients = []
    for model in (fused, eager):
        torch.manual_seed(5)
        state, biases = torch.randn(2, 17, 32).double(), torch.randn(2, 2, 3, 16).double().requires_grad_()
        model.recognition(state, biases).pow(3).sum().backward()
        gradients.append(biases.grad)
    assert gradients[0].abs().max() > 1e-4
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)  # written out, its softmax is in float32


def test_mask_head():
    head = MaskHead(width=6, channels=5, clip_heads=4).double()
    queries, patches = torch.randn(2, 3, 6).double(), torch.randn(2, 7, 6).double()
    with torch.no_grad():
        masks, biases = head(queries, patches)
        for b in range(2):
            for q in range(3):
                query = head.query(queries[b, q])
                for n in range(7):
                    torch.testing.assert_close(masks[b, q, n], query @ head.pixel(patches[b, n]), **EXACT)
                    for h in range(4):
                        raw = query @ head.bias(patches[b, n])[5 * h : 5 * (h + 1)]
                        want = head.rescale.weight[0, 0] * raw + head.rescale.bias[0]
                        torch.testing.assert_close(biases[b, h, q, n], want, **EXACT)


def test_fusion_is_a_norm_over_channels_and_a_convolution():
    fusion = Fusion(6, 4).double()
    for parameter in fusion.parameters():
        nn.init.normal_(parameter)
    state = torch.randn(2, 10, 6).double()
    picture = state[:, 1:].transpose(1, 2).reshape(2, 6, 3, 3)
    with torch.no_grad():
        centred = picture - picture.mean(1, keepdim=True)
        normed = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
        normed = normed * fusion.norm.weight[:, None, None] + fusion.norm.bias[:, None, None]
        want = F.conv2d(normed, fusion.project.weight[:, :, None, None], fusion.project.bias)
        want = F.interpolate(want, size=(6, 6), mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
        torch.testing.assert_close(fusion(state, 6), want, **EXACT)


def torch_layer(layer, size):
    """The same pre-norm layer, by torch."""
    twin = nn.TransformerEncoderLayer(
        size.width, size.heads, 4 * size.width, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True
    ).double()
    attention = layer.attention
    parts = [attention.q_proj, attention.k_proj, attention.v_proj]
    state = {
        "self_attn.in_proj_weight": torch.cat([part.weight for part in parts]),
        "self_attn.in_proj_bias": torch.cat([part.bias for part in parts]),
    }
    names = {
        "self_attn.out_proj": attention.o_proj,
        "linear1": layer.mlp.fc1,
        "linear2": layer.mlp.fc2,
        "norm1": layer.layernorm_before,
        "norm2": layer.layernorm_after,
    }
    state |= {f"{name}.{key}": value for name, part in names.items() for key, value in part.state_dict().items()}
    twin.load_state_dict(state)
    return twin


@pytest.mark.parametrize("fidelity", ["paper", "released"])
def test_the_side_network_written_out(fidelity):
    model, size = san(fidelity=fidelity).double(), SAN_SIZES["nano"]
    side = model.side
    for parameter in side.parameters():
        nn.init.normal_(parameter, std=0.3)
    pixels = torch.randn(2, 3, 32, 32).double()
    states = {k: torch.randn(2, 17, 32).double() for k in model.taps}
    fused = {"paper": {0: 0, 1: 2, 2: 3}, "released": {0: 0, 2: 1}}[fidelity]
    with torch.no_grad():
        positions = torch.cat([side.query_positions, side.positions])
        patches = F.conv2d(pixels, side.embed.weight, side.embed.bias, 4).flatten(2).transpose(1, 2)
        tokens = torch.cat([side.queries.expand(2, -1, -1), patches], 1) + positions
        for k in range(3):
            tokens = torch_layer(side.layers[k - 1], size)(tokens) if k else tokens
            if k in fused:
                tokens[:, 3:] += side.fusions[list(side.sources).index(k)](states[fused[k]], 8)
            if k == 1:
                tokens = tokens + positions
        queries, patches = side(pixels, states)
        torch.testing.assert_close(torch.cat([queries, patches], 1), tokens, **EXACT)


def test_the_answer_is_the_weighted_mean_of_the_proposals():
    model = san().double()
    pixels, ids, mask = given(model)
    with torch.no_grad():
        masks, regions = model.image_embedding(model.image_states(pixels.double()))
        text = model.text_states(ids, mask)
        cosine = torch.cosine_similarity(regions, text[:, None], dim=-1)
        weights = (cosine * model.library.logit_scale.exp()).softmax(1)
        large = F.interpolate(masks, size=(32, 32), mode="bilinear", align_corners=False)
        want = (weights[:, :, None, None] * large).sum(1, keepdim=True)
        torch.testing.assert_close(model(pixels.double(), ids, mask), want, **EXACT)


def test_the_released_answer_is_a_sum_of_products():
    model = san(fidelity="released").double()
    pixels, ids, mask = given(model)
    with torch.no_grad():
        masks, regions = model.image_embedding(model.image_states(pixels.double()))
        weights = (regions * model.text_states(ids, mask)[:, None]).mean(-1)
        large = F.interpolate(masks, size=(32, 32), mode="bilinear", align_corners=False)
        want = (weights[:, :, None, None] * large).sum(1, keepdim=True)
        torch.testing.assert_close(model(pixels.double(), ids, mask), want, **EXACT)


def test_the_sentence_and_the_bias_both_matter():
    model = san()
    pixels, ids, mask = given(model)
    with torch.no_grad():
        before = model(pixels, ids, mask)
        assert not torch.allclose(before, model(pixels, ids.flip(0), mask.flip(0)))
        nn.init.normal_(model.masks.bias[-1].weight, std=2)
        assert not torch.allclose(before, model(pixels, ids, mask))


@pytest.mark.parametrize("fidelity", ["paper", "released"])
def test_save_and_load(fidelity, tmp_path):
    model = san(fidelity=fidelity, image_size=40)
    for parameter in trained_parameters(model).values():
        nn.init.normal_(parameter, std=0.1)
    info = {"method": "san/adapter", "size": "nano", "weights": None, "options": {"fidelity": fidelity}}
    save_run(tmp_path, model, info)
    assert (tmp_path / TRAINED).stat().st_size < 4 * size_of(*trained_parameters(model).values()) + 10_000
    again, _ = load_run(tmp_path)
    inputs = given(model)
    with torch.no_grad():
        assert model(*inputs).shape == (2, 1, 40, 40)
        assert torch.equal(again(*inputs), model(*inputs))


def test_without_positions_the_states_can_be_cached():
    assert cacheable(san()) == {"image": False, "text": True}
    model = san(positions=False)
    assert cacheable(model) == {"image": True, "text": True}
    pixels, ids, mask = given(model)
    with torch.no_grad():
        before = *model.image_states(pixels), model.text_states(ids, mask)
        for parameter in trained_parameters(model).values():
            parameter.add_(torch.randn_like(parameter))
        after = *model.image_states(pixels), model.text_states(ids, mask)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_folded_positions_change_nothing():
    model = san(image_size=40).double()
    folded = copy.deepcopy(model)
    assert folded.fold() == ["position table at 5 x 5"]
    pixels, ids, mask = given(model)
    with torch.no_grad():
        torch.testing.assert_close(folded(pixels.double(), ids, mask), model(pixels.double(), ids, mask), **EXACT)


def test_the_embedded_encoders_carry_one():
    model = san("tiny")
    with torch.no_grad():
        masks, regions = model.image_embedding(model.image_states(torch.randn(1, 3, 176, 176)))
    assert masks.shape == (1, 16, 22, 22) and regions.shape == (1, 16, 128)
    assert model.backbone == build_model("clipseg/frozen", "tiny").backbone


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["image", "text", "decoder"])
def test_stages_export_with_any_batch(stage):
    model = san().requires_grad_(False)
    model.fold()
    model.library.set_attn_implementation("eager")
    pixels, ids, mask = given(model)
    batch, length = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("length", min=2, max=77)
    with torch.no_grad():
        embedded = (
            *model.image_embedding(model.image_states(pixels)),
            model.text_embedding(model.text_states(ids, mask)),
        )
        run, example, axes = {
            "image": (lambda p: model.image_embedding(model.image_states(p)), (pixels,), ({0: batch},)),
            "text": (
                lambda i, m: model.text_embedding(model.text_states(i, m)),
                (ids, mask),
                ({0: batch, 1: length}, {0: batch, 1: length}),
            ),
            "decoder": (lambda a, b, t: model.decode((a, b), t), embedded, ({0: batch},) * 3),
        }[stage]
        model.forward = run
        program = torch.export.export(model, example, dynamic_shapes=axes, strict=False).module()
        again = [torch.cat([one, one[:1]]) for one in example]
        torch.testing.assert_close(program(*again), run(*again))


@pytest.mark.parametrize(
    ("size", "options", "says"),
    [
        ("nano", {"image_size": 36}, "multiple of 8"),
        ("nano", {"fidelity": "mine"}, "paper or released"),
        ("nano", {"fidelity": "released", "positions": False}, "leave out positions"),
        ("nano", {"rank": 3}, "known: fidelity"),
        ("rd64", {}, "known: tiny, base"),
        ("base", {"weights": "/no/such/folder"}, "no weights at"),
    ],
)
def test_bad_input(size, options, says):
    with pytest.raises(UserError, match=says):
        san(size, **options)
