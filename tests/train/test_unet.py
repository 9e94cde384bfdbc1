import numpy as np
import pytest

from vlseg.train.models.runs import RUN
from vlseg.train.unet import fit_unet, make_unet


def test_weights_come_from_the_seed():
    one, same, other = (next(make_unet(seed).parameters()) for seed in (1, 1, 2))
    assert (one == same).all() and not (one == other).all()


def test_a_finished_unet_is_loaded_not_trained(shapes, tmp_path, nano):
    recipe = nano.replace(max_epochs=2)
    said: list[str] = []
    first, facts = fit_unet(recipe, shapes, tmp_path / "unet", said.append)
    trained = len(said)
    again, same = fit_unet(recipe, shapes, tmp_path / "unet", said.append)
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    assert np.array_equal(first.probability(image, "a"), again.probability(image, "b"))
    assert facts == same and facts["epochs"] == 2 and facts["trained_parameters"] == pytest.approx(1.6e6, rel=0.05)
    assert len(said) == trained == 2
    assert sorted(p.name for p in (tmp_path / "unet").iterdir()) == ["metrics.csv", RUN, "unet.safetensors"]
