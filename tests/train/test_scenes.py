import json

import numpy as np
import pytest

from vlseg.deploy.annotations import read_split
from vlseg.deploy.errors import UserError
from vlseg.deploy.pixels import read_image, read_mask
from vlseg.train import clinic, drawing, scenes, sentences
from vlseg.train.sentences import Phrase

MANY = 150


@pytest.fixture(scope="module")
def drawn() -> list[scenes.Scene]:
    return [scenes.draw(np.random.default_rng([9, i]), 96) for i in range(MANY)]


def centroid(mask: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return columns.mean() / mask.shape[1], rows.mean() / mask.shape[0]


def test_a_seed_gives_one_scene_and_another_seed_another():
    first, again, other = (scenes.draw(np.random.default_rng(seed), 64) for seed in (1, 1, 2))
    assert np.array_equal(first.image, again.image)
    assert not np.array_equal(first.image, other.image)


def test_pictures_are_uint8_and_objects_lie_apart(drawn):
    for scene in drawn:
        assert scene.image.shape == (96, 96, 3)
        assert scene.image.dtype == np.uint8
        assert sum(blob.mask.astype(int) for blob in scene.blobs).max() == 1
        assert all(blob.mask.any() for blob in scene.blobs)


def test_objects_differ_from_the_ground_around_them(drawn):
    named = [(s, b) for s in drawn for b in s.blobs if b.traits.colour]
    contrast = [np.abs(s.image[b.mask].mean(0) - s.image[~s.mask(Phrase())].mean(0)).max() for s, b in named]
    assert np.mean([value > 25 for value in contrast]) > 0.98


def test_places_are_where_the_words_say(drawn):
    for blob in (blob for scene in drawn for blob in scene.blobs if len(scene.blobs) > 1):
        x, y = blob.center
        words = (blob.traits.place or "").split()
        assert ("left" in words) == (x < 0.4)
        assert ("right" in words) == (x > 0.6)
        assert ("top" in words) == (y < 0.4)
        assert ("bottom" in words) == (y > 0.6)


def test_sizes_have_gaps_between_their_words(drawn):
    areas: dict[str, list[float]] = {name: [] for name in sentences.SIZES}
    for blob in (blob for scene in drawn for blob in scene.blobs):
        areas[blob.traits.size or ""].append(blob.mask.mean())
    assert max(areas["small"]) < min(areas["medium"])
    assert np.quantile(areas["medium"], 0.99) < np.quantile(areas["large"], 0.02)


@pytest.mark.parametrize("shape", sentences.SHAPES)
def test_contours_enclose_the_area_of_the_unit_disc(shape):
    outline = drawing.contour(shape, np.random.default_rng(3))
    angles = np.linspace(-np.pi, np.pi, 20_001)[:-1]
    assert np.mean(outline(angles) ** 2) == pytest.approx(1, abs=0.03)


def test_a_phrase_fits_what_it_says_and_nothing_else():
    polyp = Phrase("red", "round", "small", "top left")
    assert Phrase().fits(polyp)
    assert Phrase(place="left").fits(polyp)
    assert Phrase(place="top left").fits(polyp)
    assert not Phrase(place="top right").fits(polyp)
    assert not Phrase(place="center").fits(polyp)
    assert not Phrase(place="top left").fits(Phrase("red", "round", "small", "top"))
    assert not Phrase(colour="blue", size="small").fits(polyp)


def test_a_mask_is_all_objects_the_sentence_means(drawn):
    rng = np.random.default_rng(0)
    for scene in drawn:
        asked = scenes.ask(scene, rng)
        fitting = [blob.mask for blob in scene.blobs if asked.phrase.fits(blob.traits)]
        assert np.array_equal(asked.mask, sum(fitting, np.zeros((96, 96), bool)))


def test_training_sentences_never_hold_a_held_out_pair(drawn):
    rng = np.random.default_rng(1)
    asked = [scenes.ask(scene, rng) for scene in drawn for _ in range(8)]
    assert not any(question.phrase.held_out for question in asked)
    assert any(scenes.present_phrase(scene, rng, held_out=True) for scene in drawn)


def test_sentences_about_absent_objects_are_one_word_away_and_empty(drawn):
    rng = np.random.default_rng(2)
    for scene in drawn:
        phrase = scenes.absent_phrase(scene, rng)
        if phrase:
            assert scene.count(phrase) == 0
            near = [len(set(phrase.said) - {n for n in phrase.said if _agrees(phrase, n, b)}) for b in scene.blobs]
            assert min(near) <= 1


def _agrees(phrase: Phrase, name: str, blob: scenes.Blob) -> bool:
    return phrase.only((name,)).fits(blob.traits)


def test_shares_of_absent_and_bare_sentences(drawn):
    rng = np.random.default_rng(4)
    asked = [scenes.ask(scene, rng, absent=0.5, bare=0.3) for scene in drawn for _ in range(6)]
    bare = np.mean([not question.phrase.said for question in asked])
    empty = np.mean([not question.mask.any() for question in asked])
    assert bare == pytest.approx(0.3, abs=0.06)
    assert 0.35 < empty < 0.55


def test_sentences_say_their_words_and_the_count():
    rng = np.random.default_rng(5)
    said = {sentences.say(Phrase("yellow", "round", "medium", "right"), 2, rng) for _ in range(300)}
    assert all("yellow" in s and "medium" in s and "right" in s for s in said)
    assert any(s.startswith("two medium yellow round") for s in said)
    assert not any(s.startswith("one") for s in said)
    assert len(said) > 100
    assert "" in {sentences.say_any(rng) for _ in range(100)}


def test_clinic_lesions_are_faint_and_their_marks_are_not_meant():
    contrast, marked = [], 0
    for seed in range(30):
        scene = clinic.draw_clinic(np.random.default_rng(seed), 96)
        lesion = scene.mask(Phrase())
        gray = scene.image.astype(float).mean(2)
        contrast.append(abs(gray[lesion].mean() - gray[~lesion].mean()))
        marked += bool((scene.image[~lesion].max(1) > 240).any())
        assert 0.02 < lesion.mean() < 0.45
    assert np.mean(contrast) < 70
    assert marked > 20


def test_a_written_data_set_is_read_by_the_loader(tmp_path):
    folder = clinic.write_dataset(tmp_path / "clinic", 3, 1, 2, size=48, seed=7)
    samples = {split: read_split(folder, split) for split in clinic.SPLITS}
    assert [len(samples[split]) for split in clinic.SPLITS] == [3, 1, 2]
    for sample in samples["train"]:
        assert read_image(sample.image).shape == (48, 48, 3)
        assert read_mask(sample.mask).any()
        assert sample.prompts["p0"] == ""
        assert "lesion" in sample.prompts["p4"]
    written = [(folder / "images" / f"train_{i:04d}.png").read_bytes() for i in range(3)]
    again = clinic.write_dataset(tmp_path / "again", 3, 1, 2, size=48, seed=7)
    assert written == [(again / "images" / f"train_{i:04d}.png").read_bytes() for i in range(3)]
    other = clinic.write_dataset(tmp_path / "other", 3, 1, 2, size=48, seed=8)
    assert written[0] != (other / "images" / "train_0000.png").read_bytes()


def test_a_data_set_never_replaces_a_folder_that_is_not_ours(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError):
        clinic.write_dataset(tmp_path / "mine", 1, 1, 1, size=32)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_a_data_set_of_ours_is_replaced(tmp_path):
    clinic.write_dataset(tmp_path / "set", 2, 1, 1, size=32)
    clinic.write_dataset(tmp_path / "set", 1, 1, 1, size=32, style="plain")
    assert len(json.loads((tmp_path / "set" / "anns" / "train.json").read_text())) == 1


def test_an_unknown_style_names_the_known_ones(tmp_path):
    with pytest.raises(UserError, match="clinic, plain"):
        clinic.write_dataset(tmp_path / "set", 1, 1, 1, style="cubist")
