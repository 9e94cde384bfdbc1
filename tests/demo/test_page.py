import asyncio
import re

import numpy as np
import pytest
from PIL import Image

from vlseg.demo import page
from vlseg.demo.overlay import overlay
from vlseg.deploy.errors import UserError
from vlseg.deploy.pixels import read_image
from vlseg.deploy.segmenter import Segmenter

gr = pytest.importorskip("gradio")


def built(models, scratch):
    """The page's blocks, built within an event loop, since gradio makes loops that it never closes outside of one."""

    async def build():
        return page.build(models, scratch)

    return list(asyncio.run(build()).blocks.values())


def test_segment_draws_what_the_bundle_says(models, bright, picture):
    answer, drawn, area, latency = page.segment(models, str(picture), " two words ", "bright", 0.6, 0.4)
    image = read_image(picture)
    with Segmenter.open(bright, threads=1) as segmenter:
        expected = segmenter.probability(image, "two words")
    assert np.array_equal(answer.probability, expected)
    assert np.array_equal(drawn, overlay(image, expected, 0.6, 0.4))
    assert f"{np.count_nonzero(expected > 0.6):,} px" in area
    assert "decoder" in latency and "onnxruntime" in latency


def test_a_second_question_about_a_picture_keeps_its_encoding(models, picture):
    page.segment(models, str(picture), "first", "bright", 0.5, 0.4)
    _, _, _, latency = page.segment(models, str(picture), "second one", "bright", 0.5, 0.4)
    assert re.findall(r"<dt>([^<]+)</dt><dd></dd><dd>cached", latency) == ["image encoder"]


def test_sliders_ask_nothing_of_the_model(models, picture, monkeypatch):
    answer, *_ = page.segment(models, str(picture), "a word", "bright", 0.5, 0.4)
    monkeypatch.setattr(models, "run", lambda *values: pytest.fail("asked the model again"))
    drawn, area = page.redraw(answer, 0.9, 1.0)
    assert np.array_equal(drawn, overlay(answer.image, answer.probability, 0.9, 1.0))
    assert f"{np.count_nonzero(answer.probability > 0.9):,} px" in area


def test_sliders_before_the_first_question_show_nothing():
    assert page.redraw(None, 0.5, 0.5) == (None, "")


def test_choosing_a_bundle_sets_its_threshold(models):
    about, threshold = page.choose(models, "strict")
    assert threshold == 0.8 and "clipseg/none" in about


@pytest.mark.parametrize(("path", "prompt", "message"), [(None, "x", "no picture"), ("given", "  ", "prompt is empty")])
def test_what_is_missing_is_said(models, picture, path, prompt, message):
    with pytest.raises(UserError, match=message):
        page.segment(models, path and str(picture), prompt, "bright", 0.5, 0.5)


def test_a_users_mistake_becomes_a_message(models, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    ask = page._spoken(lambda path: page.segment(models, path, "x", "bright", 0.5, 0.5))
    with pytest.raises(gr.Error) as caught:
        ask(str(broken))
    assert "broken.png" in str(caught.value.message)


def test_the_page_builds_and_every_control_has_a_label(models, tmp_path):
    kinds = (gr.Image, gr.Textbox, gr.Slider, gr.Dropdown)
    controls = [block for block in built(models, tmp_path) if isinstance(block, kinds)]
    assert len(controls) == 6 and all(control.label for control in controls)


def test_the_dropdown_appears_with_the_second_bundle(bright, strict, tmp_path):
    for bundles in ([bright], [bright, strict]):
        models = page.Models(bundles, threads=1)
        (dropdown,) = [block for block in built(models, tmp_path) if isinstance(block, gr.Dropdown)]
        assert dropdown.visible == (len(bundles) > 1)
        models.close()


def test_an_upload_is_read_where_all_pictures_are_read(models, tmp_path):
    """A picture turned by EXIF reaches the model upright."""
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (60, 30), (200, 0, 0)).save(path, exif=exif)
    answer, *_ = page.segment(models, str(path), "x", "bright", 0.5, 0.5)
    assert answer.probability.shape == (60, 30)


def test_the_picture_input_hands_on_the_file_unopened(tmp_path):
    from gradio.data_classes import ImageData

    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    assert page.picture_input().preprocess(ImageData(path=str(broken), orig_name="broken.png")) == str(broken)
