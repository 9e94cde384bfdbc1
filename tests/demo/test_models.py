import gc
import shutil
import weakref

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


def test_switching_frees_the_old_engines_memory(models, image):
    sessions = [weakref.ref(engine._session) for engine in models._open._engines.values()]
    assert len(sessions) == 3 and all(session() is not None for session in sessions)
    models.run("strict", image, "one")
    gc.collect()
    assert [session() for session in sessions] == [None, None, None]


def test_the_first_of_many_pays_for_the_picture(models, image):
    models.run("bright", image, "one")
    first, *rest = models.run_all("bright", image, ["one", "two", "one"])
    assert first.timings.image > 0 and [one.timings.image for one in rest] == [0, 0]
    assert models.live.count("bright") == 4


def test_a_bundle_that_does_not_open_leaves_the_old_one(models, image, strict, tmp_path):
    models.folders["strict"] = tmp_path
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
