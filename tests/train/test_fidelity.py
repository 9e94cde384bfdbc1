"""One field of the recipe chooses between a paper and its published code, and the page that lists them is right."""

import re
from pathlib import Path

import pytest
import torch

from vlseg.train.fidelity import loss_of, options_of
from vlseg.train.models.grafts import trained_parameters
from vlseg.train.models.methods import METHODS, build_model, option_names
from vlseg.train.recipe import Recipe

PAGE = (Path(__file__).parents[2] / "docs" / "fidelity.md").read_text()
TABLE = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if line.startswith("| `")]
OWN_LOSS = {
    name for names, _, released, _ in TABLE if "double sigmoid" in released for name in re.findall("`(.*?)`", names)
}
# with these options the released forward pass is another one; the rest of its methods with the field have the same one
DIFFERS = {
    "clipseg/coop": {"upsampler": True},
    "clipseg/cocoop": {"upsampler": True},
    "clipseg/vpt": {"upsampler": True},
    "clipseg/shared-attention": {},
    "cris/full": {},
    "cris/coop": {},
    "cris/cocoop": {},
    "san/adapter": {},
}
# what differs is the mean and standard deviation of pixels, before the forward pass
BEFORE = {"sam/lga"}
VARIANTS = [name for name in METHODS if "fidelity" in option_names(name)]


def test_every_method_is_on_the_page():
    listed = [name for cells in TABLE for name in re.findall("`(.*?)`", cells[0])]
    assert len(set(listed)) == len(listed) and set(listed) >= set(METHODS)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_released_variant_differs_where_the_page_says_so(name):
    options = DIFFERS.get(name, {} if name in BEFORE else {"upsampler": True})
    paper = build_model(name, "nano", **options)
    released = build_model(name, "nano", fidelity="released", **options)
    assert {n: p.shape for n, p in trained_parameters(paper).items()} == {
        n: p.shape for n, p in trained_parameters(released).items()
    }
    for parameter in trained_parameters(paper).values():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    released.load_state_dict(trained_parameters(paper), strict=False)
    words = paper.tokenizer(["a red polyp", "one small round lesion on the left"])
    inputs = torch.randn(2, 3, paper.image_size, paper.image_size), *(torch.from_numpy(a) for a in words)
    assert ((paper.mean, paper.std) != (released.mean, released.std)) == (name in BEFORE)
    with torch.no_grad():
        same = torch.equal(paper(*inputs), released(*inputs))
    assert same == (name not in DIFFERS)


@pytest.mark.parametrize("name", METHODS)
def test_the_recipe_chooses_the_variant(name):
    recipe = Recipe(method=name, fidelity="released")
    assert options_of(recipe) == ({"fidelity": "released"} if name in VARIANTS else {})
    assert options_of(recipe.replace(fidelity="paper")) == {}
    mine = recipe.replace(options={"fidelity": "paper"})
    assert options_of(mine) == {"fidelity": "paper"}  # what an option says counts more


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_is_released_for_those_whose_code_has_it(name):
    masks = torch.ones(1, 1, 4, 4)
    sure = torch.full_like(masks, 30.0)
    recipe = Recipe(method=name, dice_weight=0.0, fidelity="released")
    want = 0.3133 if name in OWN_LOSS else 0.0
    assert loss_of(recipe)(sure, masks).item() == pytest.approx(want, abs=1e-4)
    assert loss_of(recipe.replace(fidelity="paper"))(sure, masks).item() < 1e-6
