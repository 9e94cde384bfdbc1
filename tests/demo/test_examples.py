import numpy as np
import pytest

from vlseg.demo.examples import SCENES, SIZE, draw, truth, write_examples
from vlseg.deploy.pixels import read_image, read_mask


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_a_scene_is_a_function_of_its_seed(scene):
    assert np.array_equal(draw(scene, 3), draw(scene, 3))
    assert draw(scene, 3).shape == (SIZE, SIZE, 3)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_objects_have_their_colour_where_they_are(scene):
    image = draw(scene)
    for blob in scene.blobs:
        column, row = (int(v * SIZE) for v in blob.center)
        assert np.abs(image[row, column] / 255 - blob.colour).max() < 0.35
        assert np.abs(image[row, column] / 255 - scene.ground).max() > 0.15


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_the_truth_holds_what_is_named_and_nothing_else(scene):
    mask = truth(scene) > 0
    for i, blob in enumerate(scene.blobs):
        column, row = (int(v * SIZE) for v in blob.center)
        assert mask[row, column] == (i < scene.named)
    area = sum(np.pi * blob.axes[0] * blob.axes[1] for blob in scene.blobs[: scene.named])
    assert mask.mean() == pytest.approx(area, rel=0.05)


def test_every_example_has_a_picture_a_sentence_and_a_mask_of_its_size(tmp_path):
    written = write_examples(tmp_path)
    assert [example.name for example in written[: len(SCENES)]] == [scene.name for scene in SCENES]
    assert len(written) == len(SCENES) + 4
    for example in written:
        image, mask = read_image(example.file), read_mask(example.mask)
        assert image.std() > 5 and example.prompt and example.noun
        assert mask.shape == image.shape[:2] and 0 < mask.mean() < 0.5


def test_the_pictures_of_nuclei_say_where_they_come_from():
    from vlseg.demo.examples import NUCLEI, NUCLEI_PROMPTS

    source = (NUCLEI / "SOURCE.txt").read_text()
    assert "CC0" in source and "BBBC038" in source
    assert all(f"{name}.jpg" in source for name in NUCLEI_PROMPTS)
