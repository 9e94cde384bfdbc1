"""The trials measure what they say, on a toy."""

import csv
from pathlib import Path

import numpy as np
import pytest

from vlseg.deploy.segmenter import Segmenter
from vlseg.deploy.trials import order, overhead, pages, soak, start, waiting
from vlseg.deploy.trials.figure import Figure, write


def test_a_figure_is_a_row(tmp_path):
    figure = Figure("t", "a", "b", "toy fp32", "onnxruntime", "drawn", 3, 0.5, "ratio", 0.4, 0.6)
    write(tmp_path / "x.csv", [figure, figure])
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and rows[0]["value"] == "0.5" and rows[0]["cpu"]


def test_orders_are_what_their_names_say():
    logits = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    sigmoid = 1 / (1 + np.exp(-logits.astype(np.float64)))
    for name in order.ORDERS:
        assert np.abs(order.ORDERS[name](logits, (8, 8)) - sigmoid).max() < 1e-6
    before = order.threshold_first(logits, (16, 24)) > 0.5
    assert np.array_equal(before, np.kron(sigmoid > 0.5, np.ones((2, 3))) > 0)
    logits[0, 0] = 1e4
    shares = [order.ORDERS[name](logits, (32, 32)) > 0.5 for name in order.ORDERS]
    assert shares[1].sum() > shares[0].sum()  # one sure logit drowns its neighbours


def test_each_order_gets_the_threshold_that_suits_it(toy_bundle, toy_data):
    with Segmenter.open(toy_bundle) as segmenter:
        figures = order.compare(segmenter, toy_data, "p1")
    dice, gains = figures[:3], figures[3:]
    assert [figure.unit for figure in figures] == ["Dice"] * 5 and all(0.5 < figure.value <= 1 for figure in dice)
    for gain, other in zip(gains, dice[1:], strict=True):
        assert gain.value == pytest.approx(other.value - dice[0].value) and gain.low <= gain.value <= gain.high


def test_the_work_besides_the_engine_ends_in_the_same_mask(toy_bundle, toy_data):
    images = sorted((toy_data / "images").iterdir())[:2]
    with overhead.open_both(toy_bundle, 1) as (real, besides):
        calls = overhead.arms(real, besides, images[0], "red")
        assert np.array_equal(calls["file to mask"](), calls["all but the engine"]())
        figures = overhead.measure(real, besides, images, "red", rounds=3)
    assert {figure.goal for figure in figures} == {"at most 0.08", "at most 1.15", ""}
    assert all(figure.value > 0 and figure.n == 6 for figure in figures)


def test_growth_of_memory():
    assert soak.growth([100.0] * 50) == 0 and soak.growth([100.0] * 50 + [110.0] * 50) == pytest.approx(0.1)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux alone tells the resident memory")
def test_memory_is_read_after_each_image(toy_bundle, tmp_path):
    with Segmenter.open(toy_bundle, threads=1) as segmenter:
        memory = soak.soak(segmenter, soak.draw(tmp_path, 3), 20, ["red", "green"])
    assert len(memory) == 18 and all(10 < value < 10_000 for value in memory)


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux alone tells the resident memory")
def test_a_thousand_images_leave_the_memory_where_it_was(walked, tmp_path):
    with Segmenter.open(walked.out / "bundle", threads=1) as segmenter:
        memory = soak.soak(segmenter, soak.draw(tmp_path), 1000, ["a lesion", "red spot", "large"])
    assert abs(soak.growth(memory)) < 0.02


def test_a_fresh_process_answers(toy_bundle, toy_data):
    told = start.start(toy_bundle, sorted((toy_data / "images").iterdir())[0], "red", 1)
    assert told["whole"] > told["import"] + told["open"] + told["first mask"] > 0 and told["shape"] == [32, 48]


def test_each_way_of_waiting_is_compared_with_sleeping(toy_bundle, tmp_path):
    waiting.main([str(tmp_path / "x.csv"), str(toy_bundle), "--rounds", "2"])
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["arm"] for row in rows} == set(waiting.WAYS) - {waiting.SLEEP}
    assert {row["data"].partition(", ")[2] for row in rows} == {
        "alone",
        "beside a busy process",
        "4 callers at once",
    }
    assert all(float(row["value"]) > 0 and row["n"] == "2" for row in rows)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux alone tells what lies in huge pages")
def test_huge_pages_are_compared_in_processes_of_their_own(toy_bundle, tmp_path):
    pages.main([str(tmp_path / "x.csv"), str(toy_bundle), "--pairs", "2", "--rounds", "2"])
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["data"].partition(",")[0] for row in rows] == ["image", "text", "decoder", "open", "resident memory"]
    assert all(float(row["value"]) > 0 and row["n"] == "2" for row in rows)
