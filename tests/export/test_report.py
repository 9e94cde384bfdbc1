import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import numpy as np
import pytest
from PIL import Image

from vlseg.deploy.stats import summary
from vlseg.export.report import STAGES, Shown, data_uri, duration, latency, plot, render

VOID = {"meta", "link", "img", "br", "path", "use", "rect"}


def _row(bundle, stage, ms):
    engine = "torch" if bundle == "run" else "onnxruntime"
    return {"bundle": bundle, "engine": engine, "stage": stage, "batch": 1, **summary([ms, ms, 1.5 * ms])}


@pytest.fixture
def report():
    rows = [_row(bundle, stage, ms) for stage in STAGES for bundle, ms in (("run", 30.0), ("bundle", 12.0))]
    ratios = [{"stage": stage, "median": 0.4, "low": 0.38, "high": 0.43, "pairs": 40} for stage in STAGES]
    return {
        "dice_before": 0.031, "dice_after": 0.912, "dice_torch": 0.912, "flipped_share": 1.25e-5,
        "p50_ms_torch": 30.0, "p50_ms_engine": 12.0, "engine_to_torch": ratios[0], "method": "clipseg/dense-vl",
        "size": "tiny", "images": {"train": 64, "val": 16, "test": 48}, "trained_parameters": 105920, "epochs": 3,
        "best_epoch": 2, "backbone": "vlseg/tiny-3", "weights_hash": "ab" * 32, "created": "2026-01-01T00:00:00+00:00",
        "parity": {"images": 16, "dice_min": 0.99995, "flipped_share": 1.25e-5, "max_abs_logit": 3e-5, "passed": True},
        "bench": {"device": {"cpu": "a <CPU> & more", "threads": 2}, "rows": rows, "ratios": ratios},
        "versions": {"python": "3.11", "torch": "2.13"}, "adapter_bytes": 430_000, "onnx_bytes": 20_100_000,
        "bundle_bytes": 20_200_000, "seconds_total": 200.0, "recipe": {}, "folds": [],
        "seconds": dict.fromkeys(("draw", "before", "train", "export", "after", "bench", "report"), 10.0),
        "curve": [{"epoch": float(i), "val_dice": d} for i, d in enumerate((0.2, 0.6, 0.9))],
    }  # fmt: skip


@pytest.fixture
def shown():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    return Shown("one <b>lesion</b>", *[data_uri(image)] * 3, 0.1, 0.9)


class Reader(HTMLParser):
    """Collects every address a browser would fetch, and checks that elements close in order."""

    def __init__(self):
        super().__init__()
        self.addresses, self.open, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.addresses += [v for k, v in attrs if k in ("src", "href", "xlink:href", "srcset", "action") and v]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.addresses += [v for k, v in attrs if k in ("src", "href", "xlink:href") and v]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(html):
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return reader


def test_a_picture_rides_in_its_address():
    image = np.full((12, 9, 3), (10, 200, 90), np.uint8)
    kind, _, body = data_uri(image).partition(",")
    back = np.asarray(Image.open(io.BytesIO(base64.b64decode(body))).convert("RGB"))
    assert kind == "data:image/webp;base64" and np.abs(back.astype(int) - image).max() < 6


def test_the_page_fetches_nothing(report, shown):
    html = render(report, [shown], Path("quickstart"))
    assert all(address.startswith(("data:", "#")) for address in read(html).addresses)
    assert not re.search(r"@import|url\((?!#)|<script", html)


def test_the_page_tells_the_figures_of_the_report(report, shown):
    text = " ".join("".join(read(render(report, [shown], Path("some/where"))).text).split())
    for told in ("0.03", "0.91", "0.0013 %", "12.0 ms", "30.0 ms", "0.43 MB", "20.10 MB", "105,920", "0.38 to 0.43"):
        assert told in text, told
    assert "vlseg demo some/where/bundle" in text


def test_words_cannot_become_markup(report, shown):
    html = render(report, [shown], Path("quickstart"))
    assert "<b>lesion" not in html and "&lt;b&gt;lesion" in html and "a &lt;CPU&gt; &amp; more" in html


def test_latency_pairs_the_rows_of_each_stage(report):
    report["bench"]["ratios"] = [ratio for ratio in report["bench"]["ratios"] if ratio["stage"] != "text"]
    lines = latency(report["bench"])
    assert [line["name"] for line in lines] == [name for stage, name in STAGES.items() if stage != "text"]
    assert all(line["torch"]["p50_ms"] == 30 and line["engine"]["p50_ms"] == 12 for line in lines)


def test_the_plot_takes_the_colours_of_the_page(report):
    svg = str(plot(report["curve"]))
    assert svg.startswith("<svg") and "var(--accent)" in svg
    assert set(re.findall(r"#[0-9a-f]{6}(?=[;\"'])", svg)) <= {"#000000", "#ffffff"}
    assert "font-family" not in svg and "0.900" in svg


def test_a_missing_figure_is_an_error(report, shown):
    del report["dice_after"]
    with pytest.raises(jinja2.UndefinedError, match="dice_after"):
        render(report, [shown], Path("quickstart"))


@pytest.mark.parametrize(("seconds", "said"), [(9.6, "10 seconds"), (119.0, "119 seconds"), (198.0, "3.3 minutes")])
def test_a_duration_is_said_in_its_unit(seconds, said):
    assert duration(seconds) == said
