"""The papers' tables: every column has a recipe, every data set a converter, every score a source."""

import pytest

from vlseg.deploy.errors import UserError
from vlseg.train.datasets.published import DATASETS
from vlseg.train.fit import check_recipe
from vlseg.train.published import PERCENT, listing, table_of, tables
from vlseg.train.recipe import load_recipe


@pytest.mark.parametrize("name", [*tables()])
def test_a_table_is_of_recipes_and_sets_that_exist(name):
    table = table_of(name)
    assert set(table.samples) <= set(DATASETS)
    assert len({column.name for column in table.columns}) == len(table.columns)
    for column in table.columns:
        check_recipe(load_recipe(column.recipe, column.set))


@pytest.mark.parametrize("name", [*tables()])
def test_scores_stand_only_where_their_source_is_named(name):
    table = table_of(name)
    assert "scores read at" in table.source or not table.known
    names = {column.name for column in table.columns}
    for by_column in table.scores.values():
        assert by_column.keys() <= names
        for scores in by_column.values():
            assert scores.keys() <= set(table.metrics)
            assert all(0 < scores[metric] < 100 for metric in scores if metric in PERCENT)
            assert scores["iou"] < scores["dice"]


def test_the_first_table_is_whole():
    table = table_of("vlsm-adapter/table-1")
    assert table.known == table.figures == 8 * 5 * 3 and table.seeds == (41, 42, 43)
    assert table.score("kvasir", "dense-vl", "dice") == 89.10 and table.score("busi", "shallow-vlc", "hd95") == 63.36
    assert all(column.set == ("fidelity=released",) for column in table.columns)
    assert table.samples["clinicdb"] == {"train": 490, "val": 61, "test": 61}
    assert table.samples["camus"] == {"val": 600, "test": 600}  # its training split's count is not published


def test_what_is_not_known_is_none_and_not_a_number():
    table = table_of("lga/table-4")
    assert table.known == 0 and table.figures == 24 and table.score("mosmeddata", "N = 4", "dice") is None
    assert [column.set[-1] for column in table.columns][:2] == ["options.n_ffm=0", "options.n_ffm=1"]


def test_a_table_may_have_the_splits_of_another_paper():
    assert table_of("tunevlseg/main").samples["kvasir"] == table_of("vlsm-adapter/table-1").samples["kvasir"]
    assert table_of("tunevlseg/main").samples["voc2012"] == {} and table_of("tunevlseg/main").search == 20


def test_the_list_and_a_table_that_is_not_there():
    rows = {row["name"]: row for row in listing()}
    assert rows["vlsm-adapter/table-1"]["known"] == 120 and rows["lga/table-1"]["columns"] == ["MedSAM", "LGA"]
    with pytest.raises(UserError, match="known: vlsm-adapter/table-1"):
        table_of("vlsm-adapter/table-9")
