import pytest
import torch

from vlseg.train.decay import parameter_groups
from vlseg.train.models.grafts import trained_parameters
from vlseg.train.models.methods import build_model
from vlseg.train.recipe import load_recipe


def names(model, group):
    return {name for name, p in trained_parameters(model).items() if any(p is one for one in group["params"])}


def test_prompts_biases_norms_and_the_ratio_do_not_decay():
    model = build_model("clipseg/shared-attention", "nano", upsampler=True, depth=1)
    kept, free = parameter_groups(model, "weights")
    assert free["weight_decay"] == 0 and "weight_decay" not in kept
    layer, upsampler = "learner.layers.0.", "library.decoder.transposed_convolution."
    maps = {"self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight"}
    assert names(model, kept) == {f"{layer}{name}" for name in maps} | {f"{upsampler}conv.weight"}
    spared = {"learner.contexts", f"{layer}norm1.weight", f"{layer}linear1.bias", f"{upsampler}ratio"}
    assert spared <= names(model, free) == set(trained_parameters(model)) - names(model, kept)


def test_a_learner_of_prompts_alone_has_nothing_that_decays():
    (only,) = parameter_groups(build_model("clipseg/vpt", "nano"), "weights")
    before = only["params"][0].detach().clone()
    optimizer = torch.optim.AdamW([only], lr=0.1, weight_decay=0.5)
    only["params"][0].grad = torch.zeros_like(before)
    optimizer.step()
    assert torch.equal(only["params"][0], before)


def test_all_means_all():
    model = build_model("clipseg/dense-vl", "nano")
    (group,) = parameter_groups(model, "all")
    assert names(model, group) == set(trained_parameters(model)) and "weight_decay" not in group


@pytest.mark.parametrize(("recipe", "decay"), [("tunevlseg/cocoop", "weights"), ("vlsm-adapter/dense-vl", "all")])
def test_tunevlseg_spares_its_prompts(recipe, decay):
    assert load_recipe(recipe).decay == decay
