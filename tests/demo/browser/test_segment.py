"""What a user sees of the first tab, judged by the pixels of the returned pictures."""

import io

import numpy as np
import pytest
from PIL import Image

from vlseg.demo.maps import heat
from vlseg.demo.overlay import overlay
from vlseg.deploy.pixels import read_image
from vlseg.deploy.segmenter import Segmenter


def answer(bundle, picture, prompt):
    image = read_image(picture)
    with Segmenter.open(bundle, threads=1) as segmenter:
        return image, segmenter.probability(image, prompt)


def test_upload_ask_move_the_threshold_and_take_the_mask(visit, bright, picture):
    """The one browser test of the quick suite: from an upload to the file that is taken away."""
    user = visit()
    user.upload(picture)
    user.ask("one bright disc")
    image, probability = answer(bright, picture, "one bright disc")
    user.until(overlay(image, probability, 0.5, 0.35))
    assert f"{np.count_nonzero(probability > 0.5):,} px" in user.text("#area")
    assert "image encoder" in user.text("#time")

    user.set("Threshold", 0.9)
    user.until(overlay(image, probability, 0.9, 0.35))
    assert f"{np.count_nonzero(probability > 0.9):,} px" in user.text("#area")
    data, name = user.take("mask")
    assert name == "disc-mask.png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))) > 0, probability > 0.9)


@pytest.mark.slow
def test_views_and_opacity_draw_the_same_answer(visit, bright, picture):
    user = visit()
    user.upload(picture)
    user.ask("a disc")
    image, probability = answer(bright, picture, "a disc")
    user.until(overlay(image, probability, 0.5, 0.35))
    user.set("Opacity", 1)
    user.until(overlay(image, probability, 0.5, 1.0))
    for view, expected in (
        ("Probability", heat(image, probability)),
        ("Mask", np.repeat((probability > 0.5)[..., None] * np.uint8(255), 3, axis=2)),
    ):
        user.page.locator("#view").get_by_label(view).check(force=True)
        user.until(expected)


@pytest.mark.slow
def test_live_asks_while_one_types(visit, bright, picture):
    user = visit()
    user.upload(picture)
    user.page.get_by_label("Live").check()
    user.page.locator("#prompt textarea").fill("a disc here")
    image, probability = answer(bright, picture, "a disc here")
    user.until(overlay(image, probability, 0.5, 0.35))


@pytest.mark.slow
def test_another_bundle_answers_the_same_question(visit, bright, strict, picture):
    user = visit()
    user.upload(picture)
    user.ask("a disc")
    image, probability = answer(bright, picture, "a disc")
    user.until(overlay(image, probability, 0.5, 0.35))
    user.choose("strict")
    user.until(overlay(image, probability, 0.8, 0.35))
    assert user.page.get_by_label("number input for Threshold").input_value() == "0.8"


@pytest.mark.slow
def test_an_example_is_one_click(visit):
    user = visit()
    user.page.locator("#segment-examples button").nth(4).click()
    user.page.locator("#mask img").first.wait_for()
    assert user.pixels("#mask img").shape == (205, 256, 3)
    assert user.page.locator("#prompt textarea").input_value().startswith("nuclei")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "prompt", "message"), [("broken", "disc", "cannot read broken.png"), ("good", " ", "prompt is empty")]
)
def test_mistakes_are_told_in_the_page(visit, picture, tmp_path, file, prompt, message):
    user = visit()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"this is not a picture")
    user.page.locator("#segment-picture input[type=file]").first.set_input_files(
        broken if file == "broken" else picture
    )
    user.page.wait_for_timeout(800)
    user.ask(prompt)
    user.page.get_by_text(message).first.wait_for()
    assert "Traceback" not in user.page.content() and "/tmp" not in user.page.inner_text("body")
    # and the page goes on: the same user asks again, rightly
    if file == "good":
        user.ask("a disc")
        user.page.locator("#mask img").first.wait_for()


@pytest.mark.slow
def test_two_users_do_not_see_each_others_pictures(visit, bright, picture, tmp_path):
    other = tmp_path / "other.png"
    Image.fromarray(255 - read_image(picture)).save(other)
    users = [(visit(), picture), (visit(), other)]
    for user, path in users:
        user.upload(path)
    for user, _ in users:
        user.ask("a disc")
    for user, path in users:
        image, probability = answer(bright, path, "a disc")
        user.until(overlay(image, probability, 0.5, 0.35))
        user.set("Threshold", 0.3)
    for user, path in users:
        image, probability = answer(bright, path, "a disc")
        user.until(overlay(image, probability, 0.3, 0.35))
