import re

import numpy as np
import pytest
from PIL import Image

from vlseg.deploy.errors import UserError
from vlseg.deploy.pixels import read_image
from vlseg.deploy.segmenter import Segmenter

pytest.importorskip("gradio")

from vlseg.demo.overlay import overlay
from vlseg.demo.session import Session
from vlseg.demo.tabs.segment import VIEWS, draw, redraw, segment


@pytest.fixture(autouse=True)
def uploads(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))


def test_it_draws_what_the_bundle_says(models, bright, picture):
    kept, drawn, area, latency = segment(models, Session(), str(picture), " two words ", "bright", 0.6, 0.4)
    image = read_image(picture)
    with Segmenter.open(bright, threads=1) as segmenter:
        expected = segmenter.probability(image, "two words")
    assert np.array_equal(kept.answer.probability, expected)
    assert np.array_equal(read_image(drawn), overlay(image, expected, 0.6, 0.4))
    assert f"{np.count_nonzero(expected > 0.6):,} px" in area
    assert "decoder" in latency and "onnxruntime" in latency


def test_a_second_question_about_a_picture_needs_neither_file_nor_encoder(models, picture):
    kept, *_ = segment(models, Session(), str(picture), "first", "bright", 0.5, 0.4)
    *_, latency = segment(models, kept, str(picture), "second one", "bright", 0.5, 0.4)
    assert re.findall(r"<dt>([^<]+)</dt><dd></dd><dd>known", latency) == ["decode file", "image encoder"]


@pytest.mark.parametrize("view", VIEWS)
def test_sliders_and_views_ask_nothing_of_the_model(models, picture, monkeypatch, view):
    kept, *_ = segment(models, Session(), str(picture), "a word", "bright", 0.5, 0.4)
    monkeypatch.setattr(models, "run", lambda *values: pytest.fail("asked the model again"))
    drawn, area = redraw(kept, 0.9, 1.0, view)
    assert np.array_equal(read_image(drawn), draw(kept.answer, 0.9, 1.0, view))
    assert f"{np.count_nonzero(kept.answer.probability > 0.9):,} px" in area


def test_views_differ(models, picture):
    kept, *_ = segment(models, Session(), str(picture), "a word", "bright", 0.5, 0.4)
    mask = draw(kept.answer, 0.5, 0.4, "Mask")
    assert np.array_equal(mask[..., 0] > 0, kept.answer.probability > 0.5)
    assert len({draw(kept.answer, 0.5, 0.4, view).tobytes() for view in VIEWS}) == 3


def test_sliders_before_the_first_question_show_nothing():
    assert redraw(Session(), 0.5, 0.5, "Overlay") == (None, "")


def test_the_screen_gets_a_small_drawing_and_the_measure_is_of_the_whole(models, tmp_path):
    ramp = np.tile(np.linspace(0, 255, 3000).astype(np.uint8)[None, :, None], (40, 1, 3))
    Image.fromarray(ramp).save(tmp_path / "long.png")
    kept, drawn, area, _ = segment(models, Session(), str(tmp_path / "long.png"), "x", "bright", 0.5, 0.4)
    assert read_image(drawn).shape == (17, 1280, 3)
    assert f"{np.count_nonzero(kept.answer.probability > 0.5):,} px" in area


@pytest.mark.parametrize(("path", "prompt", "message"), [(None, "x", "no picture"), ("given", "  ", "prompt is empty")])
def test_what_is_missing_is_said(models, picture, path, prompt, message):
    with pytest.raises(UserError, match=message):
        segment(models, Session(), path and str(picture), prompt, "bright", 0.5, 0.5)


def test_an_upload_is_read_where_all_pictures_are_read(models, tmp_path):
    """A picture turned by EXIF reaches the model upright."""
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (60, 30), (200, 0, 0)).save(tmp_path / "turned.jpg", exif=exif)
    kept, *_ = segment(models, Session(), str(tmp_path / "turned.jpg"), "x", "bright", 0.5, 0.5)
    assert kept.answer.probability.shape == (60, 30)
