"""From files to files: what is written, what is never overwritten, what goes on after a failure or a break."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from vlseg.deploy.clean import Clean
from vlseg.deploy.errors import UserError
from vlseg.deploy.journal import NAME
from vlseg.deploy.masks import COCO, segment_files
from vlseg.deploy.outputs.rle import from_rle
from vlseg.deploy.pixels import read_image
from vlseg.deploy.question import Question
from vlseg.deploy.segmenter import Segmenter

RED = Question(["red"])


@pytest.fixture
def segmenter(toy_bundle):
    with Segmenter.open(toy_bundle) as opened:
        yield opened


@pytest.fixture
def picture(tmp_path, colours):
    Image.fromarray(colours[0]).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def run(segmenter, source, out, question=RED, **options):
    sources = source if isinstance(source, list) else [source]
    return list(segment_files(segmenter, sources, question, out, **options))


def test_one_image(segmenter, picture, colours, tmp_path):
    [done] = run(segmenter, picture, tmp_path / "out" / "mask.png")
    mask = read_image(tmp_path / "out" / "mask.png")[..., 0]
    assert done.files == (tmp_path / "out" / "mask.png",) and set(np.unique(mask)) == {0, 255}
    assert np.array_equal(mask > 0, segmenter.segment(colours[0], "red"))
    assert done.share == pytest.approx((mask > 0).mean()) and done.mm2 is None and done.error is None
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mask.png"]


def test_a_folder_keeps_stems(segmenter, toy_data, tmp_path):
    done = run(segmenter, toy_data / "images", tmp_path / "masks")
    assert [one.files[0].name for one in done] == [f"case{i}.png" for i in range(4)]


def test_patterns_and_several_files(segmenter, toy_data, tmp_path):
    done = run(segmenter, str(toy_data / "images" / "case[12].png"), tmp_path / "a")
    assert [one.source.name for one in done] == ["case1.png", "case2.png"]
    twice = [toy_data / "images" / "case3.png", str(toy_data / "images" / "*.png")]
    assert [one.source.name for one in run(segmenter, twice, tmp_path / "b")] == [f"case{i}.png" for i in (3, 0, 1, 2)]


def test_a_pattern_keeps_the_folders_below_its_own(segmenter, toy_data, tmp_path):
    for patient in ("a", "b"):
        (tmp_path / "scans" / patient / "series").mkdir(parents=True)
        shutil.copy(toy_data / "images" / "case0.png", tmp_path / "scans" / patient / "series" / "IM1.png")
    pattern = str(tmp_path / "scans" / "**" / "*.png")
    done = run(segmenter, pattern, tmp_path / "out", formats=["png", "rle"])
    names = [path.relative_to(tmp_path / "out").as_posix() for one in done for path in one.files]
    assert names == ["a/series/IM1.png", "a/series/IM1.rle.json", "b/series/IM1.png", "b/series/IM1.rle.json"]
    assert len(json.loads((tmp_path / "out" / COCO).read_text())["images"]) == 2
    again = run(segmenter, pattern, tmp_path / "out", formats=["png", "rle"])
    assert all(one.skipped for one in again) and [one.files for one in again] == [one.files for one in done]


def test_several_prompts_become_a_map_of_classes(segmenter, picture, colours, tmp_path):
    [done] = run(segmenter, picture, tmp_path / "map.png", Question(["red", "green"]))
    with Image.open(done.files[0]) as image:
        assert image.mode == "P"
        labels = np.asarray(image)
    assert np.array_equal(labels, segmenter.classes(colours[0], ["red", "green"]))
    assert [area["class"] for area in done.areas] == [1, 2]
    assert [area["pixels"] for area in done.areas] == [(labels == i).sum() for i in (1, 2)]
    assert done.share == pytest.approx((labels > 0).mean())


def test_every_format_at_once(segmenter, picture, colours, tmp_path):
    [done] = run(segmenter, picture, tmp_path / "out", formats=["png", "overlay", "rle"])
    names = ["picture.png", "picture.overlay.png", "picture.rle.json"]
    assert [path.name for path in done.files] == names
    mask = segmenter.segment(colours[0], "red")
    overlay = read_image(done.files[1])
    far = np.zeros_like(mask)
    far[-5:] = True  # below both objects
    assert (overlay[mask] != colours[0][mask]).any() and np.array_equal(overlay[far], colours[0][far])
    coco = json.loads((tmp_path / "out" / COCO).read_text())
    assert coco == json.loads(done.files[2].read_text())
    assert np.array_equal(from_rle(coco["annotations"][0]["segmentation"]), mask)


def test_the_rle_of_a_folder_is_one_coco_data_set(segmenter, toy_data, tmp_path):
    run(segmenter, toy_data / "images", tmp_path / "out", Question(["red", "green"]), formats=["rle"])
    coco = json.loads((tmp_path / "out" / COCO).read_text())
    assert [image["file_name"] for image in coco["images"]] == [f"case{i}.png" for i in range(4)]
    assert [one["id"] for one in coco["annotations"]] == list(range(1, 9))
    assert [one["image_id"] for one in coco["annotations"]] == [1, 1, 2, 2, 3, 3, 4, 4]
    for image in coco["images"]:
        labels = segmenter.classes(read_image(toy_data / "images" / image["file_name"]), ["red", "green"])
        for one in (one for one in coco["annotations"] if one["image_id"] == image["id"]):
            mask = labels == one["category_id"]
            assert one["segmentation"]["size"] == [image["height"], image["width"]]
            assert np.array_equal(from_rle(one["segmentation"]), mask) and one["area"] == mask.sum()


def test_masks_are_cleaned_when_asked(segmenter, tmp_path):
    image = np.full((64, 64, 3), 20, np.uint8)
    image[4:40, 4:40, 0] = image[56:60, 56:60, 0] = 250
    image[16:28, 16:28, 0] = 20
    Image.fromarray(image).save(tmp_path / "x.png")
    question = Question(["red"], clean=Clean(largest=True, holes=True))
    [done] = run(segmenter, tmp_path / "x.png", tmp_path / "m.png", question)
    mask = read_image(done.files[0])[..., 0] > 0
    assert mask[22, 22] and not mask[58, 58]
    assert np.array_equal(mask, segmenter.segment(image, "red", clean=question.clean))


def test_a_large_picture_in_tiles(segmenter, tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "x.png")
    told = []
    question = Question(["red"], tile=32, progress=lambda done, total: told.append((done, total)))
    [done] = run(segmenter, tmp_path / "x.png", tmp_path / "m.png", question)
    assert told[0] == (1, 12) and told[-1] == (12, 12)
    mask = read_image(done.files[0])[..., 0] > 0
    assert np.array_equal(mask, segmenter.tiled(image, "red", side=32).mask)
    assert not np.array_equal(mask, segmenter.segment(image, "red"))


@pytest.mark.parametrize("name", ["mask.png", "masks.nii.gz", "mask.jpg"])
def test_several_files_do_not_go_into_a_folder_named_as_a_file(segmenter, toy_data, tmp_path, name):
    with pytest.raises(UserError, match=f"{name} is one file"):
        run(segmenter, toy_data / "images", tmp_path / name)
    assert not (tmp_path / name).exists()
    assert run(segmenter, toy_data / "images", tmp_path / "masks.v2")[0].error is None


def test_a_source_that_may_not_be_looked_at(segmenter, tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "in").mkdir()
    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    with pytest.raises(UserError, match=r"in \(Permission denied\): get the right to read it"):
        run(segmenter, tmp_path / "in", tmp_path / "out")


def test_an_image_is_never_replaced(segmenter, picture):
    before = picture.read_bytes()
    for source, out in ((picture, picture), (picture.parent, picture.parent)):
        with pytest.raises(UserError, match="would replace an image"):
            run(segmenter, source, out, overwrite=True)
    assert picture.read_bytes() == before


def test_a_mask_is_replaced_only_when_asked(segmenter, picture, tmp_path):
    out = tmp_path / "mask.png"
    out.write_bytes(b"mine")
    with pytest.raises(UserError, match="exists already"):
        run(segmenter, picture, out)
    assert out.read_bytes() == b"mine"
    run(segmenter, picture, out, overwrite=True)
    assert read_image(out).shape == read_image(picture).shape


@pytest.mark.parametrize(
    ("source", "out", "options", "says"),
    [
        ("absent.png", "m.png", {}, "there is no"),
        ("absent*.png", "m", {}, "matches no image"),
        ("picture.png", "m.jpg", {}, "not a PNG"),
        ("empty", "m", {}, "no images in"),
        ("picture.png", "m.png", {"formats": ["tiff"]}, "no format 'tiff'; known: png"),
        ("picture.png", "m.png", {"formats": ["rle"]}, "does not end as rle does"),
        ("picture.png", "m.png", {"formats": ["png", "rle"]}, "one file for 2 formats"),
        ("picture.png", "m", {"formats": ["dicom-seg"]}, "is no DICOM"),
        ("picture.png", "m", {"formats": ["nifti"]}, "is no NIfTI"),
    ],
)
def test_bad_input(segmenter, picture, tmp_path, source, out, options, says):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=says):
        run(segmenter, tmp_path / source, tmp_path / out, **options)
    assert not [*tmp_path.glob("m"), *tmp_path.glob("m.*")]


def test_two_images_of_one_stem(segmenter, toy_data, tmp_path):
    first = sorted((toy_data / "images").iterdir())[0]
    Image.fromarray(read_image(first)).save(first.with_suffix(".bmp"))
    with pytest.raises(UserError, match="would write one mask"):
        run(segmenter, toy_data / "images", tmp_path / "masks")


def test_one_bad_file_does_not_stop_the_rest(segmenter, toy_data, tmp_path):
    (toy_data / "images" / "case1.png").write_bytes(b"no picture")
    done = run(segmenter, toy_data / "images", tmp_path / "masks")
    assert [bool(one.error) for one in done] == [False, True, False, False]
    assert "case1.png" in (done[1].error or "") and done[1].files == ()
    assert sorted(path.name for path in (tmp_path / "masks").glob("*.png")) == ["case0.png", "case2.png", "case3.png"]


def interrupted(segmenter, toy_data, out, after=2, **options):
    """Begin on a folder and stop after some files, as Ctrl-C does."""
    going = segment_files(segmenter, [toy_data / "images"], RED, out, **options)
    done = [next(going) for _ in range(after)]
    going.close()
    return done


def test_an_interrupted_folder_goes_on(segmenter, toy_data, tmp_path):
    first = interrupted(segmenter, toy_data, tmp_path / "out")
    stamps = {path: path.stat().st_mtime_ns for one in first for path in one.files}
    done = run(segmenter, toy_data / "images", tmp_path / "out")
    assert [one.skipped for one in done] == [True, True, False, False]
    assert [one.source.name for one in done] == [f"case{i}.png" for i in range(4)]
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}
    assert [one.areas for one in done[:2]] == [one.areas for one in first]
    assert all(one.skipped for one in run(segmenter, toy_data / "images", tmp_path / "out"))


def test_what_changed_since_is_done_again(segmenter, toy_data, tmp_path):
    run(segmenter, toy_data / "images", tmp_path / "out")
    Image.new("RGB", (48, 32), (250, 20, 20)).save(toy_data / "images" / "case1.png")
    (tmp_path / "out" / "case2.png").unlink()
    done = run(segmenter, toy_data / "images", tmp_path / "out")
    assert [one.source.name for one in done if not one.skipped] == ["case1.png", "case2.png"]
    assert (read_image(tmp_path / "out" / "case1.png") == 255).all()


def test_a_file_that_was_half_written_is_done_again(segmenter, toy_data, tmp_path):
    """Killed between the mask and the note about it, and once more in the middle of a line of the journal."""
    interrupted(segmenter, toy_data, tmp_path / "out")
    journal = tmp_path / "out" / NAME
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:-1]) + lines[-1][:20])
    done = run(segmenter, toy_data / "images", tmp_path / "out")
    assert [one.skipped for one in done] == [True, False, False, False]
    assert all(one.skipped for one in run(segmenter, toy_data / "images", tmp_path / "out"))


def test_results_of_other_settings_are_not_taken_for_these(segmenter, toy_data, tmp_path):
    interrupted(segmenter, toy_data, tmp_path / "out")
    images = toy_data / "images"
    for question, word in ((Question(["green"]), "prompt"), (Question(["red"], 0.9), "threshold")):
        with pytest.raises(UserError, match=f"results of another {word}: choose another --out, or pass --overwrite"):
            run(segmenter, images, tmp_path / "out", question)
    done = run(segmenter, images, tmp_path / "out", Question(["green"]), overwrite=True)
    assert not any(one.skipped for one in done)
    green = segmenter.segment(read_image(images / "case1.png"), "green")
    assert np.array_equal(read_image(tmp_path / "out" / "case1.png")[..., 0] > 0, green)


def test_an_interrupted_overwrite_goes_on_without_asking_again(segmenter, toy_data, tmp_path):
    run(segmenter, toy_data / "images", tmp_path / "out", Question(["green"]))
    interrupted(segmenter, toy_data, tmp_path / "out", overwrite=True)
    done = run(segmenter, toy_data / "images", tmp_path / "out")
    assert [one.skipped for one in done] == [True, True, False, False]


def test_a_folder_of_somebody_else_s_masks_is_left_alone(segmenter, toy_data, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "case3.png").write_bytes(b"mine")
    with pytest.raises(UserError, match="exists already"):
        run(segmenter, toy_data / "images", tmp_path / "out")
    assert (tmp_path / "out" / "case3.png").read_bytes() == b"mine"
    assert not (tmp_path / "out" / "case0.png").exists()


def test_a_journal_holds_no_prompt(segmenter, toy_data, tmp_path):
    run(segmenter, toy_data / "images", tmp_path / "out", Question(["a very private red spot"]))
    assert "private" not in (tmp_path / "out" / NAME).read_text()


def test_the_same_name_from_elsewhere_is_another_file(segmenter, toy_data, tmp_path):
    run(segmenter, toy_data / "images", tmp_path / "out")
    other = shutil.copytree(toy_data / "images", tmp_path / "other")
    with pytest.raises(UserError, match="exists already"):
        run(segmenter, other, tmp_path / "out")


def test_a_folder_that_cannot_be_written(segmenter, toy_data, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="cannot write"):
        run(segmenter, toy_data / "images", tmp_path / "file" / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(segmenter, toy_data, tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(UserError, match="cannot write"):
        run(segmenter, toy_data / "images", tmp_path / "out")


def test_a_full_disk_stops_the_run_and_leaves_whole_files(segmenter, toy_data, tmp_path, monkeypatch):
    interrupted(segmenter, toy_data, tmp_path / "out", after=1)
    fsync = os.fsync

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        run(segmenter, toy_data / "images", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["case0.png"]
    monkeypatch.setattr(os, "fsync", fsync)
    done = run(segmenter, toy_data / "images", tmp_path / "out")
    assert [one.skipped for one in done] == [True, False, False, False]


def test_a_stack_writes_a_file_for_each_picture(segmenter, tmp_path, colours):
    frames = [Image.fromarray(colours[0]), Image.fromarray(colours[0][:, ::-1])]
    frames[0].save(tmp_path / "x.tif", save_all=True, append_images=frames[1:])
    told = []
    options = {"formats": ["png", "rle"], "progress": lambda done, total: told.append((done, total))}
    [done] = run(segmenter, tmp_path / "x.tif", tmp_path / "out", **options)
    assert told == [(1, 2), (2, 2)]
    assert [path.name for path in done.files] == ["x_0000.png", "x_0001.png", "x.rle.json"]
    for path, image in zip(done.files, (colours[0], colours[0][:, ::-1]), strict=False):
        assert np.array_equal(read_image(path)[..., 0] > 0, segmenter.segment(np.ascontiguousarray(image), "red"))
    assert [image["index"] for image in json.loads(done.files[2].read_text())["images"]] == [0, 1]
    with pytest.raises(UserError, match="holds 2 pictures"):
        run(segmenter, tmp_path / "x.tif", tmp_path / "one.png")


def test_no_prompt_is_no_question():
    for bad in ([], "red"):
        with pytest.raises(UserError, match="at least one sentence"):
            Question(bad)
