import numpy as np
import pytest
from PIL import Image

from vlseg.deploy.errors import UserError
from vlseg.deploy.pixels import read_image, read_mask

pytest.importorskip("gradio")

from vlseg.demo.overlay import overlay
from vlseg.demo.session import Answer, Session, looking_at
from vlseg.demo.take import take


@pytest.fixture
def answer(picture, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    _, seen = looking_at(Session(), str(picture))
    return Answer(seen, "a disc", "bright", np.random.default_rng(0).random((90, 120), dtype=np.float32))


def test_the_mask_is_that_of_the_threshold(answer):
    path = take("mask", answer, {}, 0.7, 0.3)
    assert path.endswith("disc-mask.png")
    assert np.array_equal(read_mask(path), answer.probability > 0.7)
    assert set(np.unique(np.asarray(Image.open(path)))) == {0, 255}


def test_the_overlay_is_of_the_whole_picture(answer):
    expected = overlay(answer.seen.pixels, answer.probability, 0.7, 0.3)
    assert np.array_equal(read_image(take("overlay", answer, {}, 0.7, 0.3)), expected)


def test_what_cannot_be_had_is_said(answer, models):
    with pytest.raises(UserError, match="press Segment first"):
        take("mask", None, {}, 0.5, 0.3)
    with pytest.raises(UserError, match="DICOM SEG belongs to a DICOM picture"):
        take("dicom", answer, models.manifests, 0.5, 0.3)
