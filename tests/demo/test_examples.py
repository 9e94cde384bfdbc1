import numpy as np
import pytest

from vlseg.demo.examples import EXAMPLES, SIZE, draw, write_examples
from vlseg.deploy.pixels import read_image


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_is_a_function_of_its_seed(example):
    assert np.array_equal(draw(example, 3), draw(example, 3))
    assert draw(example, 3).shape == (SIZE, SIZE, 3)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_objects_have_their_colour_where_they_are(example):
    image = draw(example)
    for blob in example.blobs:
        column, row = (int(v * SIZE) for v in blob.center)
        assert np.abs(image[row, column] / 255 - blob.colour).max() < 0.35
        assert np.abs(image[row, column] / 255 - example.ground).max() > 0.15


def test_they_are_written_as_pictures(tmp_path):
    written = write_examples(tmp_path)
    assert [prompt for _, prompt in written] == [example.prompt for example in EXAMPLES]
    assert all(read_image(path).std() > 5 for path, _ in written)
