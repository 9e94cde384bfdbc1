"""What a report is turned into: lines of protocol, a drawing, a page, trtexec's form."""

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from vlseg.deploy.bench.draw import draw
from vlseg.deploy.bench.explain import STAGES, explain
from vlseg.deploy.bench.page import page, table
from vlseg.deploy.bench.plan import Plan
from vlseg.deploy.bench.run import Extras, bench
from vlseg.deploy.bench.trtexec import exported, unsplit

PLAN = Plan(repeats=2, warmup=1, most=2, batches=(1, 2))


@pytest.fixture
def report(toy_bundle, fixed_bundle):
    extras = Extras(cold=False, profile=True, seconds=0.05)
    return bench([toy_bundle, fixed_bundle], plan=PLAN, threads=1, extras=extras)


def test_every_stage_has_its_sentence(report):
    assert {row["stage"] for row in report["rows"]} == set(STAGES)


def test_the_protocol_speaks_of_the_row_at_hand(report):
    row = {**report["rows"][0], "steady": False, "warmup": 7, "watts": 6.5, "load_ms": 210.0, "first_mask_ms": 33.0}
    text = explain(row, report, PLAN)
    for piece in (
        *(f"toy on onnxruntime, fp32, {row['stage']}, batch 1:", "NOT steady after 7 rounds", "2 rounds"),
        *("2 subjects side by side: fixed on onnxruntime, toy on onnxruntime", "1 threads", "6.5 W"),
        *("loaded in 210 ms", "first mask 33 ms later", "least Dice 1.0000", report["device"]["cpu"]),
    ):
        assert piece in text


def test_no_warm_up_and_no_proof_are_said(report):
    row = {**report["rows"][0], "parity_dice_min": None}
    text = explain(row, report, Plan(repeats=2, warmup=0))
    assert "warm-up: none" in text and "the model in torch itself" in text


def test_the_drawing_is_svg_with_a_bar_for_each_row(report):
    root = ElementTree.fromstring(draw(report["rows"]))
    space = "{http://www.w3.org/2000/svg}"
    bars = [one for one in root.iter(f"{space}rect") if float(one.get("x")) > 100]
    assert len(bars) == len(report["rows"])
    longest = max(report["rows"], key=lambda row: row["p50_ms"])
    scale = 430 / max(row["p99_ms"] for row in report["rows"])
    assert max(float(bar.get("width")) for bar in bars) == pytest.approx(scale * longest["p50_ms"], abs=0.1)


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.links, self.bodies = [], [], []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "rect", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("meta", "rect", "path"):
            assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else(report):
    report["rows"][0]["bundle"] = "<script>alert(1)</script>"
    text = page(report, PLAN)
    tags = Tags()
    tags.feed(text)
    assert tags.open == [] and tags.links == []
    assert "<script>" not in text and "&lt;script&gt;" in text
    for heading in ("Latency", "Ratios", "Where the time goes", "Sustained: toy on onnxruntime", "How it was measured"):
        assert f"<h2>{heading}</h2>" in text
    assert "<h2>Not measured</h2>" not in text


def test_columns_that_nobody_filled_are_left_out():
    assert table([]) == ""
    text = table([{"a": 1, "b": None, "c": 0.5}])
    assert re.findall("<th>(.*?)</th>", text) == ["a", "c"] and "<td>0.500</td>" in text


def test_trtexecs_form():
    rows = json.loads(exported([{"h2d": 0.1, "enqueue": 0.05, "compute": 2.0, "d2h": 0.2}, *unsplit([3.0])]))
    one, two = rows
    assert one["latencyMs"] == pytest.approx(2.3) and one["computeMs"] == 2.0
    assert one["endH2dMs"] == one["startComputeMs"] and one["endComputeMs"] == one["startD2hMs"]
    assert two["startH2dMs"] == pytest.approx(one["endD2hMs"]) and two["h2dMs"] == 0 and two["latencyMs"] == 3.0
    assert set(one) == {
        *("startEnqMs", "endEnqMs", "startH2dMs", "endH2dMs", "startComputeMs", "endComputeMs"),
        *("startD2hMs", "endD2hMs", "h2dMs", "computeMs", "d2hMs", "latencyMs"),
    }


def test_an_engine_that_tells_is_split_in_its_rows(toy_bundle, tmp_path):
    from vlseg.deploy.bench.plan import Subject
    from vlseg.deploy.bench.run import measure
    from vlseg.deploy.bench.tasks import draw_image
    from vlseg.deploy.engines.cuda import CudaRuntime
    from vlseg.deploy.segmenter import Segmenter

    class OnCpu(CudaRuntime):
        device = "cpu"

        def providers(self, options):
            return ["CPUExecutionProvider"]

    with Segmenter.open(toy_bundle, threads=1) as segmenter:
        for part in ("image", "text", "decoder"):
            segmenter._engines[part].close()
            segmenter._engines[part] = OnCpu(toy_bundle / f"{part}.onnx", 1)
        report = measure([Subject("toy", segmenter)], Plan(repeats=3, warmup=0), draw_image(tmp_path / "x.png"))
    for row in report["rows"]:
        told = [row[f"{name}_ms"] for name in ("h2d", "compute", "d2h")]
        assert all(value > 0 for value in told) if row["stage"] == "engine" else told == [None] * 3
    assert "enqueue" not in report["trtexec"][0] and report["rows"][3]["enqueue_ms"] is None
    assert all(one["h2d"] > 0 and one["compute"] > 0 for one in report["trtexec"]) and len(report["trtexec"]) == 3


def test_the_profile_adds_up(report):
    rows = [row for row in report["profile"] if row["bundle"] == "toy"]
    parts = [row for row in rows if not row["inside"]]
    assert [row["part"] for row in parts] == ["decode", "preprocess", "image", "text", "decoder", "postprocess"]
    assert sum(row["share"] for row in parts) == pytest.approx(1)
    for part in ("image", "text", "decoder"):
        (whole,) = [row["ms"] for row in parts if row["part"] == part]
        inside = [row["ms"] for row in rows if row["part"] == part and row["inside"]]
        assert sum(inside) == pytest.approx(whole)
