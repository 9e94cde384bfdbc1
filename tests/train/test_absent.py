"""What is not in an image can be said, and a training learns to answer it with nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vlseg.deploy.annotations import Sample, read_pair, read_split
from vlseg.deploy.errors import UserError
from vlseg.train.absent import OBJECTS, Absent, words
from vlseg.train.data import Look, Pictures
from vlseg.train.fit import fit
from vlseg.train.models.methods import build_model
from vlseg.train.recipe import Recipe


def samples(*prompts: dict) -> list[Sample]:
    return [Sample(Path("i.png"), Path("m.png"), one, f"s{i}") for i, one in enumerate(prompts)]


FOLDERS = {
    "kvasir": samples({"p0": "", "p1": "polyp", "p2": "one round polyp"}),
    "clinic": samples({"p0": "", "p1": "polyps", "p2": "a flat polyp"}),
    "skin": samples({"p1": "skin lesion", "p2": ["atypical nevus", "common nevus"]}),
    "busi": samples({"p1": "Tumor in the image.", "p2": "x"}, {"p1": "No tumor in the image.", "p2": "No tumor."}),
}


def test_another_folders_words_never_those_of_the_same_object():
    absent = Absent(FOLDERS, "p2")
    said = {absent.sentence("kvasir", "s0", i) for i in range(200)}
    assert {"atypical nevus", "common nevus"} <= said and said & set(OBJECTS)
    assert not any("polyp" in text or text.lower().startswith("no ") for text in said)
    skin = {absent.sentence("skin", "s0", i) for i in range(200)}
    assert {"one round polyp", "a flat polyp"} <= skin and "skin lesion" not in skin
    assert said | skin <= set(absent.sentences())
    assert absent.sentence("skin", "s0", 7) == absent.sentence("skin", "s0", 7)


def test_a_folder_without_the_key_lends_nothing():
    absent = Absent(FOLDERS | {"cells": samples({"p1": "nuclei"})}, "p2")
    assert "nuclei" not in absent.sentences() and "one round polyp" in absent.sentences()


def test_a_folder_alone_has_the_list():
    absent = Absent({"": FOLDERS["busi"]}, "p1")
    said = {absent.sentence("", name) for name in map(str, range(300))}
    assert said == {text for text in OBJECTS if "tumor" not in text}


def test_words_that_tell_something():
    assert words("Both lungs in the chest X-ray") == {"lung", "chest", "ray"}
    assert words("one of the images") == frozenset()


def test_the_answer_to_what_is_absent_is_empty(shapes):
    sample = read_split(shapes, "train")[0]
    assert read_pair(sample)[1].any()
    image, mask = read_pair(Sample(sample.image, sample.mask, sample.prompts, sample.name, absent=True))
    assert mask.shape == image.shape[:2] and mask.dtype == bool and not mask.any()


def test_a_share_of_the_examples_is_negative(shapes):
    look = Look(32, (0.5,) * 3, (0.5,) * 3, "p1", seed=3, negatives=0.25)  # type: ignore[arg-type]
    asked = Pictures(read_split(shapes, "train"), look)
    examples = [asked[epoch, i] for epoch in range(40) for i in range(10)]
    empty = [example for example in examples if not example.mask.any()]
    assert 70 < len(empty) < 130
    assert all((e.prompt in OBJECTS) == (not e.mask.any()) for e in examples)
    again = Pictures(read_split(shapes, "train"), look)
    assert [again[7, i].prompt for i in range(10)] == [asked[7, i].prompt for i in range(10)]
    assert all(np.array_equal(again[7, i].mask, asked[7, i].mask) for i in range(10))


def test_negatives_are_of_training_alone(shapes, tmp_path, nano):
    said = []
    recipe = nano.replace(negatives=0.5, prompt="p1", max_epochs=1)
    info = fit(recipe, shapes, tmp_path / "run", say=said.append)
    assert info["recipe"]["negatives"] == 0.5 and 0 <= info["metrics"]["test"]["dice"] <= 1
    plain = fit(recipe.replace(negatives=0.0), shapes, tmp_path / "plain", say=said.append)
    rows = [(tmp_path / run / "metrics.csv").read_text().splitlines()[1].split(",") for run in ("run", "plain")]
    assert rows[0][2] != rows[1][2] and plain["images"] == info["images"]


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_no_share(share):
    with pytest.raises(UserError, match="no share"):
        Recipe(negatives=share)


def test_to_the_embedded_base_all_objects_are_one_word():
    """Why, in docs/evidence.md, negatives do not help the decoder alone: were this to fail, run that grid again."""
    model = build_model("clipseg/decoder", "tiny")
    texts = [*(text for text in OBJECTS if "left" not in text), "one large polyp on the left"]
    with torch.no_grad():
        tokens = [[torch.from_numpy(array) for array in model.tokenizer([text])] for text in texts]
        vectors = torch.stack([model.text_embedding(model.text_states(*both)).flatten() for both in tokens])
    alike = torch.nn.functional.normalize(vectors, dim=1)
    alike = alike @ alike.T
    assert alike[:-1, :-1].min() > 0.98 and alike[-1, :-1].max() < 0.7
