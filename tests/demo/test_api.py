"""What programs ask: the examples in the docs are the page's, and the answers those of the bundle."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from vlseg.deploy.errors import UserError
from vlseg.deploy.pixels import read_image, read_mask
from vlseg.deploy.segmenter import Segmenter

pytest.importorskip("gradio")

from gradio.utils import get_upload_folder

from vlseg.demo.api import CURL, PYTHON, answer

DOCS = Path(__file__).parents[2] / "docs" / "demo.md"


@pytest.fixture(autouse=True)
def uploads(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))


def upload(picture):
    """Put a picture where the page keeps uploads, and speak of it as a program does."""
    (folder := Path(get_upload_folder())).mkdir(exist_ok=True)
    return {"path": shutil.copy(picture, folder), "meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize("example", [PYTHON, CURL])
def test_the_docs_show_the_pages_own_examples(example):
    assert example.format(url="http://127.0.0.1:7860", picture="picture.png") in DOCS.read_text()


@pytest.mark.parametrize(
    ("bundle", "threshold", "level"), [(None, None, 0.5), ("strict", None, 0.8), ("strict", 0.3, 0.3)]
)
def test_a_mask_and_its_figures(models, bright, picture, bundle, threshold, level):
    file, facts = answer(models, upload(picture), " a disc ", bundle, threshold)
    with Segmenter.open(bright, threads=1) as segmenter:
        expected = segmenter.probability(read_image(picture), "a disc") > level
    assert np.array_equal(read_mask(file.path), expected)
    assert facts["area_px"] == expected.sum() and facts["share"] == expected.mean()
    assert facts["bundle"] == (bundle or "bright") and facts["threshold"] == level and facts["ms"] > 0


@pytest.mark.parametrize(("prompt", "bundle", "message"), [(" ", None, "prompt is empty"), ("x", "none", "no bundle")])
def test_mistakes_are_told(models, picture, prompt, bundle, message):
    with pytest.raises(UserError, match=message):
        answer(models, upload(picture), prompt, bundle, None)
