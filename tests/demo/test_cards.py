import io
from base64 import b64decode

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio")

from vlseg.demo.cards import WIDTH, Card, cards_html, key_html


def test_a_card_holds_its_pictures_to_the_pixel():
    drawing = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    html = cards_html([Card("a & b", "<sentence>", [("one", drawing), ("two", 255 - drawing)], {"Dice": "0.9"})])
    shown = [
        np.asarray(Image.open(io.BytesIO(b64decode(part.partition('"')[0])))) for part in html.split("base64,")[1:]
    ]
    assert np.array_equal(shown[0], drawing) and np.array_equal(shown[1], 255 - drawing)
    assert "a &amp; b" in html and "&lt;sentence&gt;" in html and "<dt>Dice</dt><dd>0.9</dd>" in html
    assert html.count("alt=") == 2


def test_large_pictures_are_fitted():
    html = cards_html([Card("a", "", [("one", np.zeros((2000, 1000, 3), np.uint8))])])
    shown = Image.open(io.BytesIO(b64decode(html.partition("base64,")[2].partition('"')[0])))
    assert shown.size == (WIDTH // 2, WIDTH)


def test_the_key_says_each_colour():
    html = key_html({"right": (1, 2, 3), "wrong": (4, 5, 6)})
    assert "rgb(1, 2, 3)" in html and html.index("right") < html.index("wrong")
