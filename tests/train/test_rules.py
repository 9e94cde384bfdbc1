import numpy as np
import pytest

from vlseg.deploy.annotations import read_pair, read_split
from vlseg.deploy.metrics import dice
from vlseg.train.rules import fit_mean_mask, fit_otsu, otsu_level


def between_class_variance(gray: np.ndarray, level: int) -> float:
    low, high = gray[gray <= level].astype(float), gray[gray > level].astype(float)
    return 0.0 if not low.size or not high.size else low.size * high.size * (low.mean() - high.mean()) ** 2


@pytest.mark.parametrize("seed", range(4))
def test_otsu_maximises_the_variance_between(seed):
    rng = np.random.default_rng(seed)
    gray = np.concatenate([rng.normal(70, 20, 300), rng.normal(170, 10, 90)]).clip(0, 255).astype(np.uint8)
    found = between_class_variance(gray, otsu_level(gray))
    assert found == pytest.approx(max(between_class_variance(gray, level) for level in range(255)))


def test_otsu_of_one_value():
    gray = np.full((3, 4), 9, np.uint8)
    assert otsu_level(gray) == 9 and not (gray > otsu_level(gray)).any()


def test_otsu_finds_bright_objects_and_the_prior_their_place(shapes):
    splits = {name: read_split(shapes, name) for name in ("train", "val", "test")}
    otsu, prior = fit_otsu(splits), fit_mean_mask(splits)
    for sample in splits["test"]:
        image, true = read_pair(sample)
        assert dice(otsu.segment(image, "anything", 0.5), true) > 0.95
        field = prior.probability(image, "")
        assert field.shape == true.shape and field.min() >= 0 and 0.2 < field.max() <= 1
