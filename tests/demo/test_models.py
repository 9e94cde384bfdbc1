import shutil

import numpy as np
import pytest

from vlseg.demo.models import Models
from vlseg.deploy.errors import BundleError, UserError
from vlseg.deploy.segmenter import Segmenter


@pytest.fixture
def image():
    return np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def test_it_answers_as_the_segmenter_does(models, strict, image):
    with Segmenter.open(strict, threads=1) as segmenter:
        expected = segmenter.probability(image, "a b")
    assert np.array_equal(models.run("strict", image, "a b").probability, expected)


def test_names_are_folders_and_the_first_is_open(models):
    assert models.names == ["bright", "strict"]
    assert models.manifests["strict"].threshold == 0.8


def test_switching_closes_the_old_engines(models, image):
    before = models._open
    models.run("strict", image, "one")
    with pytest.raises(UserError, match="closed"):
        before.logits(image, "one")
    assert models.run("bright", image, "one").mask.shape == (40, 50)


def test_a_bundle_that_does_not_open_leaves_the_old_one(models, image, strict, tmp_path):
    models._folders["strict"] = tmp_path
    with pytest.raises(BundleError, match="not a bundle"):
        models.run("strict", image, "one")
    assert models.run("bright", image, "one").mask.shape == (40, 50)


def test_folders_of_one_name_are_told_apart(bright, tmp_path):
    copies = [tmp_path / place / "bundle" for place in ("a", "b")]
    for copy in copies:
        shutil.copytree(bright, copy)
    models = Models(copies, threads=1)
    assert models.names == ["a/bundle", "b/bundle"]
    models.close()


@pytest.mark.parametrize(
    ("given", "message"), [("missing", "there is no bundle"), ("", "not a bundle"), ("twice", "two bundles")]
)
def test_bad_bundles_are_told_in_one_sentence(given, message, tmp_path, bright):
    bundles = [bright, bright] if given == "twice" else [tmp_path / given]
    with pytest.raises(UserError, match=message):
        Models(bundles)


def test_an_unknown_name_is_told_with_the_known_ones(models, image):
    with pytest.raises(UserError, match="it has bright, strict"):
        models.run("other", image, "one")
