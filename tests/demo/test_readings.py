import re

import pytest

from vlseg.demo.readings import area_html, latency_html
from vlseg.deploy.answers import Timings
from vlseg.deploy.outputs.area import Area


def test_area_is_in_mm2_where_a_pixel_has_a_size():
    plain, sized = area_html(Area(1234, 0.25), 0.5), area_html(Area(1234, 0.25, 77.04), 0.5)
    assert "<b>1,234 px</b>" in plain and "25.00% of the picture at threshold 0.50" in plain
    assert "<b>77.0 mm²</b>" in sized and "1,234 px" in sized


def test_bars_share_one_scale_and_what_cost_nothing_is_known():
    text = latency_html(Timings(image=20.0, decoder=5.0), "onnx<runtime", decode_ms=10.0)
    assert "<b>35.0 ms</b>" in text and "onnx&lt;runtime" in text
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%", text)]
    assert widths == pytest.approx([50.0, 100.0, 25.0])
    assert re.findall(r"<dt>([^<]+)</dt><dd></dd><dd>known", text) == ["preprocess", "text encoder", "postprocess"]
