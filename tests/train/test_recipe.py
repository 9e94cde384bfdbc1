import pytest

from vlseg.deploy.errors import UserError
from vlseg.train.recipe import Recipe, load_recipe


@pytest.mark.parametrize(
    ("name", "lr"), [("dense-v", 1e-3), ("dense-vlc", 1e-3), ("shallow-vl", 3e-4), ("decoder", 1e-3)]
)
def test_presets_are_the_published_ones(name, lr):
    recipe = load_recipe(method=f"clipseg/{name}", size="base")
    assert recipe == Recipe(method=f"clipseg/{name}", size="base", lr=lr)
    assert (recipe.batch_size, recipe.max_epochs, recipe.patience, recipe.clip_norm) == (32, 200, 20, 0.5)
    assert (recipe.weight_decay, recipe.plateau_factor, recipe.plateau_patience) == (1e-3, 0.3, 5)


def test_small_size_takes_small_steps_unless_a_recipe_is_named():
    assert load_recipe(method="clipseg/dense-vl", size="tiny").batch_size == 8
    assert load_recipe("vlsm-adapter/dense-vl", size="tiny").batch_size == 32


def test_file_inherits_and_overrides_win(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        'base = "vlsm-adapter/shallow-v"\nmethod = "clipseg/shallow-v"\nbatch_size = 6\n[options]\nrank = 3\n'
    )
    recipe = load_recipe(file, ["batch_size=2", "options.condition_rank=5", "augment=true", "max_minutes=2"])
    assert (recipe.lr, recipe.batch_size, recipe.augment, recipe.max_minutes) == (3e-4, 2, True, 2.0)
    assert recipe.options == {"rank": 3, "condition_rank": 5}
    assert isinstance(recipe.max_minutes, float)


def test_set_reads_numbers_words_and_none():
    recipe = load_recipe(
        None, ["prompt=p3", "precision=32", "image_size=none", "lr=1e-2"], method="clipseg/dense-v", image_size=64
    )
    assert (recipe.prompt, recipe.precision, recipe.image_size, recipe.lr) == ("p3", "32", None, 0.01)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("learning_rate=1", "known: method, size"),
        ("lr=fast", "expected a number"),
        ("batch_size=2.5", "expected a whole number"),
        ("batch_size=true", "expected a whole number"),
        ("augment=1", "expected true or false"),
        ("cache=tape", "auto or off or memory or disk"),
        ("fidelity=mine", "paper or released"),
        ("batch_size=0", "at least 1"),
        ("lr=0", "lr > 0"),
        ("lr=nan", "lr > 0"),
        ("plateau_factor=2", "plateau_factor < 1"),
        ("min_epochs=500", "above max_epochs"),
        ("devices=3", "choose a multiple"),
        ("lr", "expected key=value"),
    ],
)
def test_bad_settings_say_what_was_expected(override, says):
    with pytest.raises(UserError, match=says):
        load_recipe(None, [override], method="clipseg/dense-vl", size="base")


def test_bad_files(tmp_path):
    broken = tmp_path / "broken.toml"
    broken.write_text("lr = = 1")
    wrong_base = tmp_path / "wrong.toml"
    wrong_base.write_text('base = "nothing"')
    for recipe, says in ((broken, "is not TOML"), (wrong_base, "expected one of"), ("absent", "dense-vl, ")):
        with pytest.raises(UserError, match=says):
            load_recipe(recipe, method="clipseg/dense-vl")
    with pytest.raises(UserError, match="no method"):
        load_recipe(size="tiny")


def test_cache_and_augmentation_exclude_each_other():
    with pytest.raises(UserError, match="set one of them off"):
        Recipe(cache="memory", augment=True)
    assert Recipe(augment=True).state_cache == "off"
    assert Recipe().state_cache == "memory"
