"""Tables and figures of the evidence, from rows made up here."""

import csv
import importlib
from pathlib import Path

import pytest

from vlseg.train.recipe import load_recipe
from vlseg.train.recipe_files import shipped

DOCS = Path(__file__).parent.parent / "docs"
ROW = {
    "prompt": "p1", "train_prompt": "p1", "set": "", "train_images": "140", "data": "ph2_skin", "tested_on": "ph2_skin",
    "seed": "41", "weights_hash": "new", "trained_parameters": "1000", "megabytes": "0.004", "minutes_to_95": "0.5",
    "epochs": "9", "steps": "90", "minutes_allowed": "1.5", "iou": "0.5", "hd95": "20", "val_dice": "0.5", "n": "40",
    "empty_share": "0",
}  # fmt: skip
OTHERS = [
    {"prompt": "p0"}, {"set": "lr=1"}, {"train_images": "35"}, {"tested_on": "busi"}, {"train_prompt": "p9"},
]  # fmt: skip
CELLS = [
    ("otsu", "41", "", 0.6),
    ("image/unet", "41", "", 0.8),
    ("clipseg/full", "41", "old", 0.1),
    ("clipseg/full", "41", "new", 0.9),
    ("clipseg/maple", "41", "new", 0.72),
    ("clipseg/maple", "42", "new", 0.92),
]


@pytest.fixture
def loaded(monkeypatch):
    """A function from the name of a script in docs/ to its module."""
    monkeypatch.syspath_prepend(DOCS)
    return importlib.import_module


@pytest.fixture
def tables(tmp_path, monkeypatch, loaded):
    """The module of the comparison's tables, over rows of its own."""
    monkeypatch.setattr(loaded("table_rows"), "MEASURED", tmp_path)
    rows = [
        ROW | {"cell": str(i), "method": method, "seed": seed, "weights_hash": weights, "dice": str(dice)}
        for i, (method, seed, weights, dice) in enumerate(CELLS)
    ]
    rows[0] |= {"trained_parameters": "", "megabytes": "", "minutes_to_95": "", "epochs": ""}
    others = [rows[-1] | other for other in OTHERS]
    write(tmp_path / "evidence.csv", rows + [other | {"dice": "0"} for other in others])
    curve = [
        {"cell": str(i), "epoch": e, "minutes": e / 10, "val_dice": e / 9} for i in range(1, 6) for e in (0, 1, 1, 2)
    ]
    write(tmp_path / "curves.csv", curve)
    return loaded("table_evidence")


def write(path, rows):
    with open(path, "w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def test_tables_hold_the_newest_weights_and_the_range_over_seeds(tables):
    assert tables.compared().splitlines()[2:] == [
        "| Otsu | 0.600 |",
        "| U-Net | 0.800 |",
        "| clipseg/full | 0.900 |",
        "| clipseg/maple | 0.820 (0.720 to 0.920) |",
    ]
    assert "| clipseg/maple | 80.0% |" in tables.against_full()
    assert "| clipseg/maple | 1,000 | 0.004 | 0.500 (0.500 to 0.500) |" in tables.cost()
    assert "| Otsu | - | - | 0.500 | 20.0 | - | - |" in tables.cost()


def test_a_preset_of_ours_is_a_method_of_its_own(tables, tmp_path):
    row = ROW | {
        "cell": "9",
        "method": "clipseg/dense-vl",
        "weights_hash": "new",
        "dice": "0.95",
        "set": tables.PLUS[0],
    }
    write(tmp_path / "tune.csv", [row, row | {"set": "lr=9"}])
    assert tables.compared().splitlines()[-1] == "| clipseg/dense-vl+ | 0.950 |"


@pytest.mark.parametrize("name", [name for name in shipped() if name.startswith("plus/")])
def test_what_a_plus_stands_for_is_the_presets_settings(loaded, name):
    recipe = load_recipe(name)
    settings = loaded("table_evidence").PLUS["shallow" in name].split()
    assert load_recipe(overrides=settings, method=recipe.method, size="tiny") == recipe


def test_an_epoch_that_was_written_twice_counts_once(tables):
    assert tables.curves()["1"] == [(0.0, 0.0), (0.1, pytest.approx(1 / 9)), (0.2, pytest.approx(2 / 9))]


def test_figures_are_drawn(tables, loaded, tmp_path):
    plots = loaded("plots")
    rows = tables.evidence_rows()
    plots.by_method(rows, tmp_path / "dice.svg")
    plots.learning(rows, tmp_path / "curves.svg")
    plots.by_size(rows, tmp_path / "size.svg")
    plots.label_efficiency([row | {"train_images": n} for n in ("14", "35") for row in rows[1:2]], tmp_path / "few.svg")
    for name in ("dice.svg", "curves.svg", "size.svg", "few.svg"):
        text = (tmp_path / name).read_text()
        assert "</svg>" in text and "ph2_skin" in text and "dc:date" not in text
    first = (tmp_path / "dice.svg").read_bytes()
    plots.by_method(rows, tmp_path / "dice.svg")
    assert (tmp_path / "dice.svg").read_bytes() == first


def asked(**changes: str) -> dict:
    return ROW | {"cell": "".join(changes.values()), "method": "clipseg/maple", "dice": "0.4"} | changes


def test_another_set_comes_from_a_file_of_its_own(tables, tmp_path):
    home = asked(data="cxr_covid", tested_on="cxr_covid", dice="0.3")
    write(tmp_path / "home.csv", [home])
    assert tables.compared().splitlines()[0] == "| Dice | ph2_skin | cxr_covid |"
    assert "| clipseg/maple | 0.820 (0.720 to 0.920) | 0.300 |" in tables.compared()


def test_a_grid_without_rows_says_so(tables, loaded):
    questions = loaded("table_questions")
    assert {make() for make in questions.TABLES.values()} == {questions.NOT_YET}


def test_words(tables, loaded, tmp_path):
    rich = [asked(train_prompt="p9", prompt=key, dice=d) for key, d in (("p9", "0.6"), ("shuffled:p9", "0.5"))]
    write(
        tmp_path / "prompts.csv", [*rich, asked(train_prompt="p0", prompt="p0", dice="0.1"), rich[0] | {"dice": "0.7"}]
    )
    lines = loaded("table_questions").prompts().splitlines()
    assert lines[2] == "| ph2_skin | clipseg/maple | 0.100 | 0.820 (0.720 to 0.920) | 0.700 | 0.500 | - | p9 | 40 |"
    assert lines[3] == "| ph2_skin | Otsu | - | 0.600 | - | - | - | - | 40 |"


def test_another_hospital_and_few_images(tables, loaded, tmp_path):
    questions = loaded("table_questions")
    write(tmp_path / "shift.csv", [asked(tested_on="cvc_clinicdb", dice="0.41", n="612")])
    assert "| clipseg/maple | 0.820 (0.720 to 0.920) | 0.410 | 57% | - | 612 |" in questions.shift()
    write(tmp_path / "few.csv", [asked(train_images=n, dice=f"0.{n}") for n in ("14", "35")])
    head, _, maple, otsu = questions.few().splitlines()
    assert head == "| Dice on ph2_skin | 14 images | 35 images | test images |"
    assert maple == "| clipseg/maple | 0.140 | 0.350 | 40 |" and otsu == "| Otsu | - | 0.600 | 40 |"


def test_settings_stand_beside_the_published_one_of_the_same_budget(tables, loaded, tmp_path):
    questions = loaded("table_questions")
    write(tmp_path / "tune.csv", [asked(set="options.init=zero lr=1")])
    lines = questions.TABLES["tune"]().splitlines()
    assert [line.split(" | ")[2] for line in lines[2:]] == ["as published"] * 2 + ["init=zero lr=1", "-", "-"]
    write(tmp_path / "tune.csv", [asked(set="lr=1", minutes_allowed="9")])
    assert "as published" not in questions.TABLES["tune"]()


def test_several_sets_at_once_in_turn_and_what_is_absent(tables, loaded, tmp_path):
    questions = loaded("table_questions")
    rows = [
        asked(data="ph2_skin+busi", cell="both", tested_on=name, dice=d)
        for name, d in (("ph2_skin", "0.5"), ("busi", "0.2"))
    ]
    rows += [
        row | {"prompt": "absent:p1", "empty_share": share, "n": "10"}
        for row, share in zip(rows, ("1", "0.5"), strict=True)
    ]
    rows += [row | {"data": "ph2_skin>busi", "cell": "turn", "dice": "0.1"} for row in rows[:2]]
    write(tmp_path / "many.csv", rows)
    assert "| clipseg/maple | one for each | 0.820 (0.720 to 0.920) | - |" in questions.many()
    assert "| clipseg/maple | one for all, 1.5 min | 0.500 | 0.200 |" in questions.many()
    assert "| clipseg/maple | ph2_skin, busi | 1.5 min | another object's phrase | 75.0% | 20 |" in questions.absent()
    turn = questions.forgetting().splitlines()
    assert turn[3:6] == [
        "| clipseg/maple | after ph2_skin | 0.820 (0.720 to 0.920) | - |",
        "| clipseg/maple | then busi | 0.100 | 0.100 |",
        "| clipseg/maple | all at once, 1.5 min | 0.500 | 0.200 |",
    ]


def test_a_rise_is_above_the_first_epoch_or_the_frozen_model(tables, tmp_path):
    assert "| clipseg/full | 0.000 | 0.500 | 0.500 |" in tables.learned()
    frozen = ROW | {
        "cell": "f",
        "method": "clipseg/frozen",
        "trained_parameters": "0",
        "val_dice": "0.2",
        "dice": "0.3",
    }
    write(tmp_path / "evidence.csv", [*tables.rows("evidence"), frozen | {"weights_hash": "new"}])
    assert "| clipseg/full | 0.200 | 0.500 | 0.300 |" in tables.learned() and "frozen" not in tables.learned()
    assert "| clipseg/maple | 0.200 | 0.500 (0.500 to 0.500) | 0.300 (0.300 to 0.300) |" in tables.learned()


def test_the_short_table_holds_what_was_run_on_several_sets(tables, tmp_path):
    assert tables.main_methods().splitlines()[2:] == []
    more = ROW | {"cell": "m", "method": "clipseg/full", "data": "busi", "tested_on": "busi", "dice": "0.4"}
    write(tmp_path / "evidence.csv", [*tables.rows("evidence"), more])
    assert tables.main_methods().splitlines() == [
        "| Dice | ph2_skin | busi |",
        "| --- | --- | --- |",
        "| clipseg/full | 0.900 | 0.400 |",
    ]
