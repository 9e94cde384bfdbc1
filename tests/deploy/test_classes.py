"""Class maps: the highest probability wins, the background where none is above the threshold."""

import numpy as np
import pytest

from vlseg.deploy.classes import class_map
from vlseg.deploy.clean import Clean
from vlseg.deploy.errors import UserError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.93, 1.0])
def test_against_the_definition(count, threshold):
    probability = RNG.random((count, 9, 11)).astype(np.float32)
    labels = class_map(list(probability), threshold)
    assert labels.dtype == np.uint8
    for place in np.ndindex(9, 11):
        values = probability[(slice(None), *place)]
        assert labels[place] == (values.argmax() + 1 if values.max() > threshold else 0)


def test_the_first_of_equals():
    same = np.full((2, 3), 0.8, np.float32)
    assert (class_map([same, same], 0.5) == 1).all()


def test_classes_are_cleaned_alone_and_take_background_only():
    ring, inner = np.zeros((9, 9), np.float32), np.zeros((9, 9), np.float32)
    ring[1:8, 1:8] = 0.7
    ring[2:7, 2:7] = 0
    inner[4, 4], inner[0, 0] = 0.9, 0.9
    labels = class_map([ring, inner], 0.5, Clean(largest=True, holes=True))
    # of two equal components the first stays; what a class loses is background, and no other's
    assert labels[0, 0] == 2 and labels[4, 4] == 0 and labels[3, 3] == 1
    inner[5, 4] = 0.9
    labels = class_map([ring, inner], 0.5, Clean(largest=True, holes=True))
    assert labels[0, 0] == 0 and labels[4, 4] == labels[5, 4] == 2 and labels[3, 3] == 1


def test_a_byte_holds_255_classes():
    with pytest.raises(UserError, match="256 prompts"):
        class_map([np.zeros((2, 2), np.float32)] * 256, 0.5)
    many = [np.full((2, 2), i / 300, np.float32) for i in range(255)]
    assert (class_map(many, 0.1) == 255).all()
