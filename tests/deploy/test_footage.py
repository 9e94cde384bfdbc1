"""A video in, an overlay video out; a camera that is faster than the model, and Ctrl-C."""

from contextlib import contextmanager
from fractions import Fraction

import numpy as np
import pytest

from vlseg.deploy import footage
from vlseg.deploy.clean import Clean
from vlseg.deploy.errors import UserError
from vlseg.deploy.footage import draw_rate, segment_video
from vlseg.deploy.inputs.video import Frame, Video, open_video
from vlseg.deploy.outputs.video import write_video
from vlseg.deploy.question import Question
from vlseg.deploy.segmenter import Segmenter

pytest.importorskip("av")
RED = Question(["red"])


@pytest.fixture
def segmenter(toy_bundle):
    with Segmenter.open(toy_bundle, threads=1) as opened:
        yield opened


@pytest.fixture
def clip(tmp_path):
    """Twelve frames in which a red block moves to the right."""
    with write_video(tmp_path / "clip.mp4", Fraction(12)) as write:
        for i in range(12):
            write(frame(i), Fraction(i, 12))
    return tmp_path / "clip.mp4"


def frame(i):
    image = np.full((96, 128, 3), 20, np.uint8)
    image[48:88, 8 * i : 8 * i + 32, 0] = 250
    return image


def test_every_frame_is_answered_at_its_time(segmenter, clip, tmp_path):
    told = []
    made = segment_video(
        segmenter, clip, RED, tmp_path / "out.mp4", progress=lambda done, total: told.append((done, total))
    )
    assert made.frames == 12 and made.rate == made.frames / made.seconds > 0 and told[-1] == (12, 12)
    with open_video(clip) as video:
        before = list(video.frames)
    with open_video(tmp_path / "out.mp4") as video:
        after = list(video.frames)
    assert [one.time for one in after] == [one.time for one in before]
    masks = [segmenter.segment(one.pixels, "red") for one in before]
    assert made.share == pytest.approx(np.mean([mask.mean() for mask in masks]))
    for mask, old, new in zip(masks, before, after, strict=True):
        inner = mask & (np.indices(mask.shape)[0] > 52) & (np.indices(mask.shape)[0] < 84)
        changed = np.abs(new.pixels.astype(int) - old.pixels).max(axis=2)
        assert np.median(changed[inner]) > 40 and np.median(changed[40:][~mask[40:]]) < 12
        assert changed[:10, :40].max() > 60  # the rate


def test_several_prompts_and_cleaning(segmenter, clip, tmp_path):
    made = segment_video(segmenter, clip, Question(["red", "green"], clean=Clean(holes=True)), tmp_path / "out.mp4")
    assert made.frames == 12


def test_only_some_seconds(segmenter, clip, tmp_path):
    assert segment_video(segmenter, clip, RED, tmp_path / "out.mp4", seconds=0.5).frames == 6


def test_an_overlay_is_replaced_only_when_asked(segmenter, clip, tmp_path):
    (tmp_path / "out.mp4").write_bytes(b"mine")
    with pytest.raises(UserError, match="exists already"):
        segment_video(segmenter, clip, RED, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == b"mine"
    assert segment_video(segmenter, clip, RED, tmp_path / "out.mp4", overwrite=True).frames == 12


def test_a_video_never_replaces_itself(segmenter, clip):
    before = clip.read_bytes()
    with pytest.raises(UserError, match="would replace"):
        segment_video(segmenter, clip, RED, clip, overwrite=True)
    assert clip.read_bytes() == before


def test_ctrl_c_in_a_file_leaves_nothing(segmenter, clip, tmp_path):
    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment_video(segmenter, clip, RED, tmp_path / "out.mp4", progress=stop)
    assert [path.name for path in tmp_path.glob("*.mp4")] == ["clip.mp4"] and not list(tmp_path.glob(".*"))


def test_a_camera_goes_on_until_ctrl_c_and_what_it_saw_is_kept(segmenter, tmp_path, monkeypatch):
    @contextmanager
    def camera(source):
        yield Video("camera:0", Fraction(30), None, (Frame(frame(i % 12), Fraction(i, 30)) for i in range(10**9)))

    def stop(done, total):
        assert total == 0
        if done == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(footage, "open_video", camera)
    made = segment_video(segmenter, "camera:0", RED, tmp_path / "out.mp4", progress=stop)
    assert made.frames == 5
    with open_video(tmp_path / "out.mp4") as video:
        assert len(list(video.frames)) == 5


def test_a_file_that_ends_early_is_told(segmenter, tmp_path, monkeypatch):
    @contextmanager
    def short(source):
        yield Video("x.mp4", Fraction(30), 9, (Frame(frame(i), Fraction(i, 30)) for i in range(4)))

    monkeypatch.setattr(footage, "open_video", short)
    made = segment_video(segmenter, "x.mp4", RED, tmp_path / "out.mp4")
    assert made.frames == 4 and made.stated == 9


def test_the_rate_is_written_in():
    image = np.full((96, 128, 3), 20, np.uint8)
    drawn = draw_rate(image, 12.34)
    assert drawn.shape == image.shape and drawn.dtype == np.uint8 and (image == 20).all()
    assert (drawn[:20, :60] != 20).any() and (drawn[40:] == 20).all()
    assert not np.array_equal(drawn, draw_rate(image, 56.7))


def test_through_the_door(door, toy_bundle, clip, tmp_path):
    words = ("segment", toy_bundle, clip, "--prompt", "red", "--out", tmp_path / "out.mp4")
    said = door(*words, "--seconds", "0.25", "--json")
    assert said.code == 0 and '"frames": 3' in said.out and " fps" in said.err, said.err
    for more, word in (((clip,), "goes alone"), (("--as", "png"), "leave out --as png")):
        bad = door(*words, *more, "--overwrite")
        assert bad.code == 2 and word in bad.err


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_no_time_to_watch(segmenter, clip, tmp_path, seconds):
    with pytest.raises(UserError, match=f"--seconds {seconds:g}: expected how long to watch"):
        segment_video(segmenter, clip, RED, tmp_path / "out.mp4", seconds=seconds)


def test_a_place_that_cannot_be_written_is_told_before_the_first_frame(segmenter, clip, tmp_path):
    told = []
    for out, says in ((tmp_path / "none" / "out.mp4", "there is no folder"), (tmp_path, "is a folder")):
        with pytest.raises(UserError, match=says):
            segment_video(segmenter, clip, RED, out, overwrite=True, progress=lambda done, _: told.append(done))
    assert not told
