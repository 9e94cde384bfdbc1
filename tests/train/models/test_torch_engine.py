"""The ways to run a model in torch: eager is the reference, the others are held against it."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from vlseg.deploy.bench.plan import Plan, Subject
from vlseg.deploy.bench.run import measure
from vlseg.deploy.bench.tasks import draw_image
from vlseg.deploy.errors import UserError
from vlseg.train.engine import open_run, segmenter_of
from vlseg.train.models.torch_engine import WAYS, engines_of

needs_a_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with g++, which is not here")


def test_an_unknown_way_names_the_known(nano):
    with pytest.raises(UserError, match="no way 'tvm' to run torch; known: torch, torch-compile, aotinductor"):
        engines_of(nano, "tvm")


@pytest.mark.parametrize("way", WAYS)
def test_every_way_has_its_name(nano, way):
    engines = engines_of(nano, way)
    assert {engine.name for engine in engines.values()} == {way}
    for engine in engines.values():
        engine.close()


@pytest.mark.slow
@needs_a_compiler
@pytest.mark.parametrize("way", ["torch-compile", "aotinductor"])
def test_compiled_draws_what_eager_draws(nano, way):
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    nano.eval()
    with segmenter_of(nano, way=way) as compiled, segmenter_of(nano) as eager:
        found, expected = compiled.logits(image, "a red polyp"), eager.logits(image, "a red polyp")
        assert np.abs(found - expected).max() <= 1e-4 * max(1, np.abs(expected).max())


def test_a_run_is_a_subject_beside_bundles(trained_run, tmp_path):
    with open_run(trained_run, way="torch") as segmenter:
        subjects = [Subject("run", segmenter), Subject("again", segmenter)]
        report = measure(subjects, replace(Plan(), repeats=1, warmup=0), draw_image(tmp_path / "x.png", 48, 40))
    assert {row["engine"] for row in report["rows"]} == {"torch"} and len(report["ratios"]) == 8
    assert all(row["parity_dice_min"] is None for row in report["rows"])
