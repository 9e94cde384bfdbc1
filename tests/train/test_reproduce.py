"""`vlseg reproduce`: counts first, every column by its recipe, ours beside the paper's, and no training twice."""

import csv
import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from vlseg.deploy.errors import UserError
from vlseg.train.datasets.convert import convert
from vlseg.train.evidence_cell import run_cell
from vlseg.train.published import table_of, tables
from vlseg.train.recipe_files import RecipeFile
from vlseg.train.reproduce import MINIATURE, Asked, cells_of, check_data, chosen, reproduce

QUICK = ("max_epochs=1", "min_epochs=0", "batch_size=4", "warmup_steps=0")
TABLE = "vlsm-adapter/table-1"


def silent(line: str) -> None:
    """Say nothing."""


def fakes() -> dict:
    """The converter's own miniatures: every data set as it is published, a handful of pictures."""
    path = Path(__file__).parent / "datasets" / "test_convert.py"
    spec = importlib.util.spec_from_file_location("fakes", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: (files, module.encoded) for name, (files, _) in module.SOURCES.items()}


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A function from names of data sets to a folder where miniatures of them are, converted as a user would."""
    root, made = tmp_path_factory.mktemp("published"), fakes()

    def folder(*names: str) -> Path:
        for name in names:
            if not (root / "sets" / name).exists():
                files, encoded = made[name]
                for path, content in files.items():
                    target = root / "sources" / name / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    content = content.encode() if isinstance(content, str) else content
                    target.write_bytes(content if isinstance(content, bytes) else encoded(content, path))
                convert(name, root / "sources" / name, root / "sets" / name)
        return root / "sets"

    return folder


def rows_of(found: dict) -> dict[tuple[str, str, str], dict]:
    return {(row["data"], row["column"], row["metric"]): row for row in found["rows"]}


def test_ours_beside_the_papers_and_nothing_is_trained_twice(converted, tmp_path):
    asked = Asked(("kvasir",), ("decoder", "dense-vl"), (41, 42), "nano", QUICK, miniature=True)
    said: list[str] = []
    found = reproduce(TABLE, converted("kvasir"), tmp_path / "out", asked, say=said.append)
    assert found["note"] == MINIATURE and "media/results.png" in found["source"]
    rows = rows_of(found)
    assert rows.keys() == {("kvasir", c, m) for c in ("decoder", "dense-vl") for m in ("dice", "iou", "hd95")}
    row = rows["kvasir", "dense-vl", "dice"]
    assert row["published"] == 89.10 and row["difference"] == pytest.approx(row["ours"] - 89.10, abs=0.011)
    ledger = list(csv.DictReader((tmp_path / "out" / "reproduce.csv").read_text().splitlines()))
    own = [float(one["dice"]) for one in ledger if one["method"] == "clipseg/dense-vl"]
    assert len(ledger) == 4 and row["ours"] == pytest.approx(100 * sum(own) / 2, abs=0.006) and row["seeds"] == [41, 42]
    assert {(one["fidelity"], one["prompt"]) for one in ledger} == {("released", "random")}
    assert [line for line in said if " of 4: kvasir" in line][-1] == "training 4 of 4: kvasir, dense-vl, seed 42"
    said.clear()
    assert reproduce(TABLE, converted("kvasir"), tmp_path / "out", asked, say=said.append) == found and not said


def test_stopped_it_goes_on_and_another_column_may_be_asked_later(converted, tmp_path, monkeypatch):
    asked = Asked(("bkai",), ("decoder",), (41, 42), "nano", QUICK, miniature=True)
    ran: list[str] = []

    def stopping(job, prompts, say):
        ran.append(job.run.name)
        if len(ran) == 2:
            raise KeyboardInterrupt
        return run_cell(job, prompts, say)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("vlseg.train.reproduce.run_cell", stopping)
        reproduce(TABLE, converted("bkai"), tmp_path / "out", asked, say=silent)
    said: list[str] = []
    more = replace(asked, columns=("decoder", "shallow-vlc"))
    found = reproduce(TABLE, converted("bkai"), tmp_path / "out", more, say=said.append)
    told = [line.partition(": ")[2] for line in said if " of 4: bkai" in line]
    assert told == ["bkai, decoder, seed 42", "bkai, shallow-vlc, seed 41", "bkai, shallow-vlc, seed 42"]
    assert {row["column"] for row in found["rows"]} == {"decoder", "shallow-vlc"}


def test_missing_sets_and_other_counts_are_told_in_one_sentence(converted, tmp_path):
    table = chosen(table_of(TABLE), Asked(("kvasir", "dfu", "busi")))
    with pytest.raises(UserError) as told:
        check_data(table, converted("kvasir", "busi"))
    text = str(told.value)
    assert "kvasir has 8 train instead of 800, 1 val instead of 100, 1 test instead of 100 samples" in text
    assert "dfu is missing" in text and "busi has 2 train instead of 624" in text and "--miniature" in text
    with pytest.raises(UserError, match="dfu is missing") as told:
        check_data(table, converted("kvasir"), miniature=True)
    assert "instead of" not in str(told.value)


def test_counts_as_published_pass(converted, tmp_path):
    """A folder that names the same pictures as often as the paper has samples."""
    data = shutil.copytree(converted("kvasir") / "kvasir", tmp_path / "kvasir")
    for split, count in table_of(TABLE).samples["kvasir"].items():
        path = data / "anns" / f"{split}.json"
        entries = json.loads(path.read_text())
        path.write_text(json.dumps((entries * count)[:count]))
    check_data(chosen(table_of(TABLE), Asked(("kvasir",))), tmp_path)


def test_seeds_sizes_and_settings_are_the_published_ones():
    cells = [cell for _, cell in cells_of(chosen(table_of(TABLE), Asked(("kvasir",), ("shallow-vlc",))), Asked())]
    assert [cell.seed for cell in cells] == [41, 42, 43]
    recipe = cells[2].recipe
    told = (recipe.size, recipe.lr, recipe.batch_size, recipe.max_epochs, recipe.seed, recipe.fidelity, recipe.prompt)
    assert told == ("base", 3e-4, 32, 200, 43, "released", "random")
    ((_, cell),) = cells_of(chosen(table_of("lga/table-1"), Asked(("qata-cov19",), ("LGA",))), Asked())
    assert (cell.recipe.seed, cell.recipe.prompt, cell.recipe.fidelity) == (666, "p2", "paper")


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (Asked(("kvasar",)), "no data set 'kvasar'; known: kvasir"),
        (Asked((), ("dense",)), "no column 'dense'; known: decoder"),
        (Asked(("kvasir",), set=("lrr=1",)), "no key 'lrr'"),
        (Asked(("kvasir",), size="huge"), "known: tiny"),
    ],
)
def test_what_a_table_does_not_have(converted, tmp_path, asked, says):
    with pytest.raises(UserError, match=says):
        reproduce(TABLE, converted("kvasir"), tmp_path / "out", replace(asked, miniature=True), say=silent)
    assert not (tmp_path / "out").exists()


def test_weights_that_cannot_be_had_are_told_before_anything_is_trained(converted, door, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    words = ("reproduce", TABLE, "--data", converted("kvasir"), "--dataset", "kvasir", "--miniature")
    said = door(*words, "--out", tmp_path / "out")
    assert said.code == 2 and said.out == ""
    assert "CIDAS/clipseg-rd64-refined is not on this machine" in said.err.splitlines()[-1]
    assert not (tmp_path / "out" / "reproduce.csv").exists()


def test_the_command(converted, door, tmp_path):
    rows = json.loads(door("reproduce", "--list", "--json").out)
    assert {row["name"] for row in rows} == set(tables())
    assert "120 of 120" in door("reproduce", "--list").out
    assert door("reproduce", TABLE).code == 2 and "--list" in door("reproduce").err
    words = ["reproduce", TABLE, "--data", converted("clinicdb"), "--out", tmp_path / "out", "--size", "nano"]
    words += ["--dataset", "clinicdb", "--column", "shallow-vlc", "--seed", 41]
    refused = door(*words)
    assert refused.code == 2 and "clinicdb has 8 train instead of 490" in refused.err
    words += ["--miniature", *(word for one in QUICK for word in ("--set", one))]
    said = door(*words)
    assert said.code == 0 and "89.04" in said.out and MINIATURE in said.err and "shallow-vlc" in said.out
    assert json.loads(door(*words, "--json").out)["rows"][0]["published"] == 89.04


def test_a_search_comes_first_where_one_was_published(converted, tmp_path, monkeypatch):
    """The published space asks for depths that so small a model has not, which is said; then one that it has."""
    asked = Asked(("busi",), ("shared-separate",), (), "nano", QUICK, 2, True)
    with pytest.raises(UserError, match="depth = 11 does not fit"):
        reproduce("tunevlseg/main", converted("busi"), tmp_path / "out", asked, say=silent)
    space = RecipeFile({}, {"lr": {"low": 1e-5, "high": 5e-3, "log": True}, "options.shared": {"choices": [8, 16]}})
    monkeypatch.setattr("vlseg.train.reproduce.read_recipe", lambda name: space)
    said: list[str] = []
    found = reproduce("tunevlseg/main", converted("busi"), tmp_path / "out", asked, say=said.append)
    (row,) = found["rows"]
    assert row["published"] is None and row["difference"] is None and row["seeds"] == [12345]
    assert sum(line.startswith("trial ") for line in said) == 2 and any("best of 2 trials" in line for line in said)
    said.clear()
    assert reproduce("tunevlseg/main", converted("busi"), tmp_path / "out", asked, say=said.append) == found
    assert not said


@pytest.mark.slow
@pytest.mark.parametrize("name", [TABLE, "lga/table-1", "lga/table-2", "lga/table-3", "lga/table-4"])
def test_the_whole_road_of_a_table(converted, tmp_path, name):
    """Every column on a miniature of every data set, in the layout that its owners publish."""
    table = table_of(name)
    asked = Asked((), (), (41,), "nano", (*QUICK, *(("prompt=p1",) if name.startswith("lga") else ())), 0, True)
    found = reproduce(name, converted(*table.samples), tmp_path / "out", asked, say=silent)
    assert len(found["rows"]) == table.figures
    assert all(0 <= row["ours"] <= 100 for row in found["rows"] if row["metric"] != "hd95")
    assert sum(row["published"] is not None for row in found["rows"]) == table.known


@pytest.mark.slow
def test_the_whole_road_of_the_prompt_learners(converted, tmp_path):
    table = table_of("tunevlseg/main")
    for data in ("voc2012", "kvasir"):
        asked = Asked((data,), (), (), "nano", QUICK, 0, True)
        found = reproduce("tunevlseg/main", converted(data), tmp_path / data, asked, say=silent)
        assert {row["column"] for row in found["rows"]} == {column.name for column in table.columns}
