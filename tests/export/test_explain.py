import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vlseg.deploy.errors import UserError
from vlseg.deploy.manifest import Manifest
from vlseg.deploy.segmenter import Segmenter
from vlseg.export.explain import explain
from vlseg.export.share import FILE


@pytest.fixture
def copied(walked, tmp_path):
    return Path(shutil.copytree(walked.out / "bundle", tmp_path / "bundle"))


def test_a_bundle_with_it_answers_as_before(walked, copied, door):
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    with Segmenter.open(copied) as before:
        answer = before.probability(image, "one round lesion")
    said = door("explain", walked.out / "run", copied, "--json")
    assert said.code == 0 and json.loads(said.out)["modules"] > 0
    assert FILE in Manifest.load(copied).files
    with Segmenter.open(copied) as after:
        assert np.array_equal(after.probability(image, "one round lesion"), answer)


def test_a_bundle_of_another_run_is_refused(walked, copied):
    replace(Manifest.load(copied), weights_hash="0" * 64).save(copied)
    with pytest.raises(UserError, match="name its own run"):
        explain(walked.out / "run", copied)
