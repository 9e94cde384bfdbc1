"""The other tabs in a real browser: many prompts, adapters and scores, the benchmark and its end, videos."""

import re

import numpy as np
import pytest
from PIL import Image

from vlseg.demo.maps import errors
from vlseg.demo.overlay import draw_mask, overlay
from vlseg.deploy.metrics import dice, hd95, iou
from vlseg.deploy.pixels import read_image
from vlseg.deploy.segmenter import Segmenter

pytestmark = pytest.mark.slow


def give_mask(user, path):
    """Give a true mask, once that of the example has left with its picture."""
    user.page.locator("#truth img").first.wait_for(state="detached")
    user.page.locator("#truth input[type=file]").first.set_input_files(path)
    user.page.locator(f"#truth img[src*='{path.name}']").first.wait_for()


def test_prompts_side_by_side(visit, bright, picture):
    user = visit()
    user.open("Ask the model")
    user.upload(picture, "ask")
    page = user.page
    page.locator("#noun textarea, #noun input").first.fill("disc")
    page.locator("#chip-colour").get_by_label("white", exact=True).check(force=True)
    page.locator("#own textarea").fill("something else")
    page.locator("#ladder dd", has_text="something else").wait_for()
    page.locator("#ask-all").click()
    page.locator("#answers img").nth(2).wait_for()
    image = read_image(picture)
    with Segmenter.open(bright, threads=1) as segmenter:
        for i, sentence in enumerate(("disc", "white disc", "something else")):
            user.until(
                overlay(image, segmenter.probability(image, sentence), 0.5), f"#answers article:nth-child({i + 1}) img"
            )
    assert re.search(r"[\d.]+ ms for the first sentence.*[\d.]+ ms for each further one", user.text("#answers .cost"))


def test_adapters_are_scored_against_a_mask(visit, bright, strict, picture, tmp_path):
    image = read_image(picture)
    y, x = np.mgrid[0 : image.shape[0], 0 : image.shape[1]]
    true = np.hypot(y - 40, x - 50) < 22
    Image.fromarray(true.astype(np.uint8) * 255).save(tmp_path / "truth.png")
    user = visit()
    user.open("Adapters")
    user.upload(picture, "adapters")
    give_mask(user, tmp_path / "truth.png")
    user.page.locator("#adapters-prompt textarea").fill("a disc")
    user.page.locator("#compare").click()
    user.page.locator("#compared-answers article").nth(1).wait_for()
    for i, (bundle, threshold) in enumerate(((bright, 0.5), (strict, 0.8))):
        with Segmenter.open(bundle, threads=1) as segmenter:
            mask = segmenter.probability(image, "a disc") > threshold
        card = f"#compared-answers article:nth-child({i + 1})"
        user.until(draw_mask(image, mask), f"{card} figure:nth-of-type(1) img")
        user.until(errors(image, mask, true), f"{card} figure:nth-of-type(2) img")
        told = user.text(card)
        for name, score in (("Dice", f"{dice(mask, true):.3f}"), ("IoU", f"{iou(mask, true):.3f}")):
            assert re.search(rf"{name}\s+{score}", told)
        assert f"{hd95(mask, true):.1f} px" in told


def test_a_mask_of_another_size_is_told(visit, picture, tmp_path):
    Image.new("L", (7, 7), 255).save(tmp_path / "small.png")
    user = visit()
    user.open("Adapters")
    user.upload(picture, "adapters")
    give_mask(user, tmp_path / "small.png")
    user.page.locator("#compare").click()
    user.page.get_by_text("the mask is 7 x 7 pixels and the picture 120 x 90").first.wait_for()


def test_the_picture_goes_along_from_tab_to_tab(visit, picture):
    user = visit()
    user.upload(picture)
    user.page.wait_for_timeout(500)
    for tab, name in (("Ask the model", "ask"), ("Adapters", "adapters")):
        user.open(tab)
        user.page.locator(f"#{name}-picture img[src*='disc.png']").first.wait_for()
        assert np.array_equal(user.pixels(f"#{name}-picture img"), read_image(picture))


def test_a_benchmark_shows_its_plot_and_rows(visit):
    user = visit()
    user.open("Latency")
    user.page.locator("#machine").get_by_text("onnxruntime").first.wait_for()
    user.page.get_by_label("number input for Rounds").fill("5")
    user.page.locator("#bench").click()
    user.page.locator("#bench-results svg[role=img]").wait_for(timeout=60_000)
    assert "strict on onnxruntime" in user.text("#bench-results")
    user.page.locator("#bench-results summary").click()
    assert user.page.locator("#bench-results tbody tr, #bench-results table tr").count() >= 16


def test_a_benchmark_is_cancelled(visit):
    user = visit()
    user.open("Latency")
    user.page.get_by_label("number input for Rounds").fill("100")
    user.page.get_by_label("number input for Rounds").press("Enter")
    user.page.locator("#bench").click()
    user.page.locator("#bench-results progress").wait_for()
    user.page.locator("#cancel-bench").click()
    user.page.get_by_text("Cancelled.").wait_for()
    user.page.wait_for_timeout(1500)
    assert user.page.locator("#bench-results svg[role=img]").count() == 0
    # the next one need not wait for the rest of the first
    user.page.get_by_label("number input for Rounds").fill("5")
    user.page.get_by_label("number input for Rounds").press("Enter")
    user.page.locator("#bench").click()
    user.page.locator("#bench-results svg[role=img]").wait_for(timeout=20_000)


def test_a_video_is_shown_with_its_pace(visit, moving):
    user = visit()
    user.open("Stream")
    with user.page.expect_file_chooser() as chooser:
        user.page.locator("#video").click()
    chooser.value.set_files(moving)
    user.page.locator("#frames img").wait_for()
    user.page.get_by_text(re.compile(r"of 20 that come; \d+ shown, \d+ dropped")).wait_for()
    assert user.pixels("#frames img").shape == (48, 64, 3)


def test_a_camera_runs_until_it_is_stopped(visit):
    user = visit()
    user.open("Stream")
    page = user.page
    page.locator("#camera").get_by_text("Click to Access Webcam").click()
    page.locator("#camera").get_by_role("button", name="start recording").or_(
        page.locator("#camera button", has_text=re.compile("Record|Stream|Start", re.I))
    ).first.click()
    page.locator("#frames img").wait_for()
    page.get_by_text(re.compile(r"of 10 that come; ([3-9]|\d\d+) shown")).wait_for()
    page.locator("#stop-stream").click()
    page.wait_for_timeout(1500)
    counts = re.compile(r"\d+ shown, \d+ dropped")
    before = counts.search(user.text("#pace"))[0]
    page.wait_for_timeout(1000)
    assert counts.search(user.text("#pace"))[0] == before
