"""The whole model, every way of running it: the GPU's lines at test size on a CPU."""

import csv
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from vlseg.export import whole

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_way_runs_blind_at_test_size(tmp_path):
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    words = ["-m", "vlseg.export.whole", "--tiny", "--batch", "2", "--seconds", "900", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with open(tmp_path / "whole.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["note"] for row in rows] == [""] * len(rows)
    found = {(row["way"], row["subject"]) for row in rows}
    assert found == {(way, subject) for way in whole.WAYS for subject in whole.SUBJECTS}
    for row in rows:
        assert float(row["p50_ms"]) > 0 and float(row["images_per_s"]) > 0 and int(row["pairs"]) == 3
        assert row["tax"] and row["over_eager"] and row["commit"] is not None
    assert all(row["over_compile"] for row in rows if row["way"] == "compile")
    assert "tax" in done.stdout and "over_compile" in done.stdout


def test_a_way_that_fails_says_so_and_the_next_one_runs(monkeypatch):
    def broken(subject):
        raise RuntimeError("no such engine")

    monkeypatch.setitem(whole.WAYS, "onnxruntime", broken)
    setting = whole.Setting("cpu", "nano", rounds=2)
    rows = list(whole.measure(setting, ("onnxruntime", "eager")))
    assert [(row["way"], row["note"] == "") for row in rows] == [("onnxruntime", False)] * 2 + [("eager", True)] * 2
    assert "no such engine" in whole.goals(rows[0]) and "MiB" in whole.goals(rows[2])


def test_ours_computes_what_eager_does():
    setting = whole.Setting("cpu", "nano", batch=2)
    with whole.ExitStack() as undo, whole.ops.preferring("reference"):
        subject = whole.Subject("adapted", setting, undo)
        expected = subject.eager()()
        for sites in ((), whole.down_sites(subject.model)):
            with torch.inference_mode():
                logits = whole.FromPixels(subject._folded(sites))(subject.pixels, subject.text)
            torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_a_graph_is_captured_once_after_three_runs_on_a_side_stream(monkeypatch):
    calls, replays = [], []

    class Graph:
        def replay(self):
            replays.append(len(calls))

    class Stream:
        def wait_stream(self, other):
            calls.append("wait")

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: nullcontext())
    replay = whole.graphed(lambda: calls.append("run"), "cuda")
    assert calls == ["wait", "run", "run", "run", "wait", "run"]
    replay()
    assert replays == [6] and calls.count("run") == 4
    assert whole.graphed(replay, "cpu") is replay


def test_no_time_left_is_a_row(tmp_path):
    rows = whole.measure_all(tmp_path, (1,), tiny=True, seconds=-1)
    assert [row["note"] for row in rows] == ["not measured: -1 s were over"] * 2
    assert len((tmp_path / "whole.csv").read_text().splitlines()) == 3
