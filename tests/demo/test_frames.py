import io
from base64 import b64decode

import numpy as np
import pytest
from PIL import Image

from vlseg.demo.frames import SHOWN, Pace, frame_html


def test_the_rate_is_that_of_the_frames_shown():
    pace = Pace()
    assert pace.rate == 0.0
    for i in range(11):
        pace.show(20.0, now=5 + i * 0.125)
    assert pace.rate == pytest.approx(8.0)


def test_what_was_dropped_is_told():
    pace = Pace()
    for i in range(6):
        pace.show(30.0, now=i * 0.2)
    pace.drop(2)
    text = pace.html(25, "engine<1>")
    assert "<b>5.0 frames/s</b>" in text and "of 25 that come" in text
    assert "6 shown, 2 dropped (25%)" in text and "30.0 ms a frame on engine&lt;1&gt;" in text


def test_a_frame_is_within_the_page_and_no_larger_than_the_screen_needs():
    rng = np.random.default_rng(0)
    smooth = np.asarray(Image.fromarray(rng.integers(0, 256, (9, 16, 3), dtype=np.uint8)).resize((1280, 720)))
    html = frame_html(smooth)
    data = html.partition("base64,")[2].partition('"')[0]
    shown = np.asarray(Image.open(io.BytesIO(b64decode(data))))
    assert shown.shape == (360, SHOWN, 3)
    assert np.abs(shown.astype(int) - np.asarray(Image.fromarray(smooth).resize((640, 360)))).mean() < 3
