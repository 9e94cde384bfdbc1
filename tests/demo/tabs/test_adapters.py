import io
from base64 import b64decode

import numpy as np
import pytest
from PIL import Image

from vlseg.deploy.errors import UserError
from vlseg.deploy.metrics import dice
from vlseg.deploy.pixels import read_image
from vlseg.deploy.segmenter import Segmenter

pytest.importorskip("gradio")

from vlseg.demo.maps import errors
from vlseg.demo.overlay import draw_mask
from vlseg.demo.session import Session
from vlseg.demo.tabs.adapters import compare


@pytest.fixture
def truth(tmp_path):
    y, x = np.mgrid[0:90, 0:120]
    Image.fromarray((np.hypot(y - 40, x - 50) < 20).astype(np.uint8) * 255).save(tmp_path / "truth.png")
    return tmp_path / "truth.png"


def shown(html):
    return [np.asarray(Image.open(io.BytesIO(b64decode(part.partition('"')[0])))) for part in html.split("base64,")[1:]]


def test_every_bundle_answers_at_its_own_threshold_and_is_scored(models, bright, strict, picture, truth):
    _, html = compare(models, Session(), str(picture), str(truth), "a disc", ["strict", "bright"])
    image, true = read_image(picture), read_image(truth)[..., 0] > 127
    pictures = shown(html)
    for i, (bundle, threshold) in enumerate(((bright, 0.5), (strict, 0.8))):
        with Segmenter.open(bundle, threads=1) as segmenter:
            mask = segmenter.probability(image, "a disc") > threshold
        assert np.array_equal(pictures[2 * i], draw_mask(image, mask))
        assert np.array_equal(pictures[2 * i + 1], errors(image, mask, true))
        assert f"<dt>Dice</dt><dd>{dice(mask, true):.3f}</dd>" in html
    assert html.index("<h3>bright") < html.index("<h3>strict")


def test_without_a_mask_there_is_no_score(models, picture):
    _, html = compare(models, Session(), str(picture), None, "a disc", ["bright"])
    assert len(shown(html)) == 1 and "Dice" not in html
    assert "<dt>trained</dt><dd>not told by this bundle" in html and "<dt>adapters add</dt><dd>not told" in html


@pytest.mark.parametrize(
    ("prompt", "chosen", "message"),
    [(" ", ["bright"], "prompt is empty"), ("x", [], "tick one to 3"), ("x", ["bright"] * 4, "4 bundles are ticked")],
)
def test_what_is_missing_is_said(models, picture, prompt, chosen, message):
    with pytest.raises(UserError, match=message):
        compare(models, Session(), str(picture), None, prompt, chosen)


def test_a_mask_of_another_picture_is_refused(models, picture, tmp_path):
    Image.new("L", (5, 5), 255).save(tmp_path / "small.png")
    with pytest.raises(UserError, match="5 x 5 pixels and the picture 120 x 90"):
        compare(models, Session(), str(picture), str(tmp_path / "small.png"), "x", ["bright"])
