import io
import re
from base64 import b64decode

import numpy as np
import pytest
from PIL import Image

from vlseg.deploy.errors import UserError
from vlseg.deploy.pixels import read_image
from vlseg.deploy.segmenter import Segmenter

pytest.importorskip("gradio")

from vlseg.demo.overlay import overlay
from vlseg.demo.session import Session
from vlseg.demo.tabs.ask import MOST, ask, sentences

WORDS = ("polyp", "one", "small", "any", "round", "any", "", ["p1", "p2", "p3", "p5"], "a mole\n\n a mole \npolyp")


def test_ticked_steps_that_say_the_same_are_asked_once():
    assert sentences(*WORDS) == [
        ("p1", "polyp"),
        ("p2", "round polyp"),
        ("p5", "one small round polyp"),
        ("own", "a mole"),
    ]


def test_there_is_a_limit():
    many = "\n".join(f"sentence {i}" for i in range(50))
    assert len(sentences("x", *["any"] * 5, "", [], many)) == MOST


def test_each_answer_is_the_bundles_own(models, bright, picture):
    _, html = ask(models, Session(), str(picture), "bright", *WORDS)
    image = read_image(picture)
    shown = [
        np.asarray(Image.open(io.BytesIO(b64decode(part.partition('"')[0])))) for part in html.split("base64,")[1:]
    ]
    with Segmenter.open(bright, threads=1) as segmenter:
        answers = [segmenter.probability(image, sentence) for _, sentence in sentences(*WORDS)]
    assert len(shown) == 4
    for drawing, probability in zip(shown, answers, strict=True):
        assert np.array_equal(drawing, overlay(image, probability, 0.5))
    assert not np.array_equal(shown[0], shown[2])


def test_both_costs_are_told(models, picture):
    _, html = ask(models, Session(), str(picture), "bright", *WORDS)
    times = [float(ms) for ms in re.findall(r"<dt>time</dt><dd>([\d.]+) ms", html)]
    first, further = (float(ms) for ms in re.findall(r"<b>([\d.]+) ms</b>", html))
    assert first == times[0] and further == pytest.approx(np.mean(times[1:]), abs=0.11)


def test_nothing_to_ask_is_said(models, picture):
    with pytest.raises(UserError, match="nothing to ask"):
        ask(models, Session(), str(picture), "bright", "polyp", *["any"] * 5, "", [], "")
