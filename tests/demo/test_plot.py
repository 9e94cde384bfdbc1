import re
import xml.etree.ElementTree as ET

from vlseg.demo.plot import plot


def row(bundle, stage, p50, p90):
    return {"bundle": bundle, "engine": "onnxruntime", "stage": stage, "p50_ms": p50, "p90_ms": p90}


def test_bars_are_as_long_as_their_p50_and_lines_as_their_p90():
    svg = plot([row("a<b", "image", 10.0, 20.0), row("c", "image", 5.0, 10.0), row("c", "decoder", 1.0, 2.0)])
    tree = ET.fromstring(svg)
    bars = [float(rect.get("width")) for rect in tree.iter("rect") if rect.get("height") == "14"]
    lines = [float(line.get("x2")) - float(line.get("x1")) for line in tree.iter("line")]
    assert bars[0] == 2 * bars[1] == 10 * bars[2]
    assert [round(long / short, 2) for long, short in zip(lines, bars, strict=True)] == [2.0, 2.0, 2.0]
    assert "a<b on onnxruntime" in [text.text for text in tree.iter("text")]


def test_a_stage_that_nobody_has_is_not_drawn():
    svg = plot([row("a", "first_prompt", 3.0, 4.0)])
    assert "first prompt" in svg and "decoder" not in svg
    assert re.findall(r"3\.00 ms", svg)
