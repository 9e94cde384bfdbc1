import csv

import pytest

from vlseg.demo.session import Session
from vlseg.deploy.errors import UserError

pytest.importorskip("gradio")

from vlseg.demo.tabs.latency import benchmark, live_html, machine_html


def test_a_benchmark_ends_with_rows_a_plot_and_the_tax(models, monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    *steps, (html, file) = benchmark(models, ["bright", "strict"], ["onnxruntime"], 5)
    assert steps and "<progress" in steps[0][0]
    assert "<svg" in html and "Time over that of bright on onnxruntime" in html
    with open(file.value["path"] if isinstance(file.value, dict) else file.value, newline="") as rows:
        told = list(csv.DictReader(rows))
    assert {row["bundle"] for row in told} == {"bright", "strict"}
    assert {"image", "text", "decoder", "first_prompt", "end_to_end"} <= {row["stage"] for row in told}


def test_nothing_ticked_is_said(models):
    with pytest.raises(UserError, match="nothing to time"):
        next(benchmark(models, [], ["onnxruntime"], 5))


def test_live_figures_are_of_what_was_asked(models, picture):
    from vlseg.deploy.pixels import read_image

    assert "None yet" in live_html(models, Session())
    for prompt in ("a", "b", "c"):
        models.run("bright", read_image(picture), prompt)
    html = live_html(models, Session())
    assert "p50 of 3 answers of bright" in html and f"{models.live.totals('bright')['p50_ms']:.1f} ms" in html


def test_the_machine_is_told():
    html = machine_html()
    assert "processor" in html and "onnxruntime" in html and "cores" in html
