"""The whole road at its smallest: a random model of 32 pixels, a handful of pictures, two epochs."""

import json
import re

import pytest

import vlseg.quickstart as road
from vlseg.deploy.errors import UserError
from vlseg.deploy.manifest import Manifest

FIGURES = ("dice_before", "dice_after", "flipped_share", "p50_ms_torch", "p50_ms_engine")


def test_it_leaves_what_it_promises_and_nothing_old(walked):
    names = {path.name for path in walked.out.iterdir()}
    assert names == {"data", "run", "bundle", "report.html", "report.json", road.MARKER}


def test_the_report_holds_figures_of_this_run(walked):
    out, report = walked.out, walked.report
    assert json.loads((out / "report.json").read_text()) == report
    assert all(isinstance(report[name], float) for name in FIGURES)
    assert 0 <= report["dice_before"] <= 1 and report["p50_ms_torch"] > 0
    assert report["dice_after"] == pytest.approx(report["dice_torch"], abs=1e-3)
    manifest = Manifest.load(out / "bundle")
    assert report["weights_hash"] == manifest.weights_hash and report["threshold_after"] == manifest.threshold
    assert report["adapter_bytes"] == (out / "run" / "trained.safetensors").stat().st_size
    assert len(report["curve"]) == report["epochs"]
    assert set(report["seconds"]) == {"draw", "before", "train", "export", "after", "bench", "report"}


def test_torch_and_engine_are_timed_side_by_side(walked):
    rows = walked.report["bench"]["rows"]
    assert {row["engine"] for row in rows} == {"torch", "onnxruntime"}
    stages = [{row["stage"] for row in rows if row["bundle"] == name} for name in ("run", "bundle")]
    assert stages[0] == stages[1] >= {"image", "text", "decoder", "first_prompt", "end_to_end"}


def test_the_page_shows_the_first_pictures_thrice(walked):
    html = (walked.out / "report.html").read_text()
    assert html.count("data:image/webp") == 3 * road.SHOWN
    assert f"{walked.report['dice_after']:.2f}" in html


def test_no_file_knows_the_folder_it_was_made_in(walked):
    """It is written beside its place and renamed, so a path in it would point nowhere."""
    for name in ("report.html", "report.json", "run/run.json", "bundle/manifest.json"):
        assert ".partial" not in (walked.out / name).read_text()


def test_progress_counts_to_its_end(walked):
    lines = walked.err.splitlines()
    steps = [line for line in lines if re.match(r"\[\d", line)]
    assert [line.split("]")[0] for line in steps] == [f"[{i}/7" for i in range(1, 8)]
    assert lines[-1].startswith("done in")
    assert ".partial" not in walked.err


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "report.json").write_text("somebody else's")
    with pytest.raises(UserError, match="not ours"):
        road.quickstart(tmp_path, pytest.fail)
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_step_that_fails_is_not_counted():
    steps = road.Steps(lambda text: None, total=1)
    with pytest.raises(RuntimeError), steps.step("one", "begins"):
        raise RuntimeError
    assert steps.seconds == {}
