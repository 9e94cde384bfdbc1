import pytest

from vlseg.deploy.errors import UserError
from vlseg.train.models.methods import METHODS
from vlseg.train.recipe import Recipe, load_recipe
from vlseg.train.recipe_files import listing, read_preset, read_recipe, shipped
from vlseg.train.search import read_space

PUBLISHED = [name for name in shipped() if not name.startswith(("vlseg/", "plus/"))]


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_recipe_loads_as_it_is(name):
    recipe = load_recipe(name)
    assert recipe.method in METHODS
    from vlseg.train.fit import check_recipe

    check_recipe(recipe)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_recipes_name_paper_table_and_column(name):
    row = next(row for row in listing() if row["name"] == name)
    assert "arXiv" in row["paper"] and row["table"] and row["column"]
    assert row["size"] in ("base", "rd64")


@pytest.mark.parametrize("name", PUBLISHED)
def test_search_spaces_can_be_read(name):
    found = read_recipe(name)
    if name.endswith(("tunevlseg/decoder", "tunevlseg/cris-full")) or name.startswith("lga/"):
        assert not found.search
    else:
        space = read_space(found.search)
        assert space["lr"].high == (1e-3 if name.startswith("vlsm") else 5e-3)  # type: ignore[attr-defined]


def test_the_published_setups_are_all_there():
    assert {name for name in shipped() if name.startswith("vlsm-adapter/")} == {
        f"vlsm-adapter/{kind}"
        for kind in (
            *(f"{place}-{parts}" for place in ("dense", "shallow") for parts in ("v", "vl", "vlc")),
            "decoder", "cris-full", "san",
        )
    }  # fmt: skip
    assert {name for name in shipped() if name.startswith("tunevlseg/")} == {
        f"tunevlseg/{kind}"
        for kind in (
            "coop", "cocoop", "vpt", "maple", "shared-attention", "shared-separate", "cris-coop", "cris-cocoop",
            "decoder", "cris-full",
        )
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vlsm-adapter/shallow-vlc", {"size": "base", "lr": 3e-4, "seed": 41, "dice_weight": 1.5, "prompt": "random"}),
        ("vlsm-adapter/cris-full", {"method": "cris/full", "lr": 1e-4, "batch_size": 32, "clip_norm": 0.5}),
        ("tunevlseg/maple", {"size": "rd64", "lr": 2e-4, "max_epochs": 20, "ce_weight": 0.2, "prompt": "p1"}),
        ("tunevlseg/cris-full", {"size": "base", "lr": 5e-5, "weight_decay": 1e-3, "max_epochs": 40}),
        ("tunevlseg/coop", {"options": {"phrase": "a photo of a"}, "plateau_factor": 0.2, "patience": 12}),
        ("vlseg/full", {"method": "clipseg/full", "lr": 1e-4, "batch_size": 32}),
    ],
)  # fmt: skip
def test_published_values(name, expected):
    values = load_recipe(name).to_dict()
    assert {key: values[key] for key in expected} == expected


def test_a_score_stands_only_where_it_was_verified():
    scores = {row["name"]: row["scores"] for row in listing() if row["scores"]}
    columns = ("decoder", "cris-full", "san", "shallow-vlc", "dense-vl")  # of its Table 1, read as its authors give it
    assert scores.keys() == {f"vlsm-adapter/{column}" for column in columns}
    assert scores["vlsm-adapter/dense-vl"]["chexlocalize"] == {"dice": 58.99, "iou": 46.01, "hd95": 535.97}


def test_short_names_and_presets():
    assert load_recipe("dense-vl") == load_recipe("vlsm-adapter/dense-vl")
    with pytest.raises(UserError, match=r"several recipes are called decoder.*tunevlseg/decoder"):
        load_recipe("decoder")
    preset = read_preset("clipseg/decoder", small=False).fields
    assert preset["lr"] == 1e-3 and not {"size", "method"} & preset.keys()
    assert read_preset("clipseg/coop", small=True).fields["prompt"] == "random"
    assert read_preset("clipseg/frozen", small=False).fields == {}
    assert load_recipe(method="clipseg/frozen", size="base") == Recipe(method="clipseg/frozen", size="base")


def test_files_of_users(tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text('base = "tunevlseg/maple"\nlr = 1e-3\n')
    assert load_recipe(mine).method == "clipseg/maple" and load_recipe(mine).lr == 1e-3
    assert "options.low_rank" in read_recipe(mine).search
    mine.write_text('base = "tunevlseg/maple"\n[search]\nlr = { low = 1e-4, high = 1e-3 }\n')
    assert list(read_recipe(mine).search) == ["lr"]
    with pytest.raises(UserError, match="no recipe nothing"):
        read_recipe("nothing")
