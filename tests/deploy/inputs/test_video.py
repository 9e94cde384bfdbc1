"""Videos that were written here are read back, with their times and turns; bad ones in one sentence."""

from fractions import Fraction

import numpy as np
import pytest

from vlseg.deploy.errors import UserError
from vlseg.deploy.inputs.video import is_video, open_video
from vlseg.deploy.outputs.video import write_video

av = pytest.importorskip("av")


def film(path, count=8, height=48, width=64, rate=25, times=None):
    """Write frames whose gray grows from one to the next."""
    with write_video(path, Fraction(rate)) as write:
        for i in range(count):
            frame = np.full((height, width, 3), (20 + 20 * i) % 256, np.uint8)
            write(frame, times[i] if times else Fraction(i, rate))
    return path


def test_frames_and_times_come_back(tmp_path):
    with open_video(film(tmp_path / "x.mp4")) as video:
        frames = list(video.frames)
    assert video.count == 8 and float(video.rate) == pytest.approx(25, rel=0.15)
    assert [frame.time for frame in frames] == [Fraction(i, 25) for i in range(8)]
    for i, frame in enumerate(frames):
        assert frame.pixels.shape == (48, 64, 3) and frame.pixels.dtype == np.uint8
        assert abs(int(frame.pixels.mean()) - (20 + 20 * i)) <= 3


def test_uneven_times_are_kept(tmp_path):
    times = [Fraction(0), Fraction(1, 10), Fraction(1, 2), Fraction(3, 2)]
    with open_video(film(tmp_path / "x.mp4", 4, times=times)) as video:
        assert [frame.time for frame in video.frames] == times


def test_times_that_do_not_grow_still_make_a_video(tmp_path):
    with open_video(film(tmp_path / "x.mp4", 3, times=[Fraction(0)] * 3)) as video:
        assert len(list(video.frames)) == 3


def test_odd_sizes_get_one_more_pixel(tmp_path):
    with open_video(film(tmp_path / "x.mp4", 2, height=33, width=47)) as video:
        assert next(video.frames).pixels.shape == (34, 48, 3)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_phone_s_video_is_upright(tmp_path, turn):
    class Turned:
        """What av hands out of a file whose display matrix says so."""

        def __init__(self, frame):
            self._frame, self.rotation = frame, turn

        def __getattr__(self, name):
            return getattr(self._frame, name)

    from vlseg.deploy.inputs import video as module

    values = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    frame = av.VideoFrame.from_ndarray(values, format="rgb24")
    frame.pts, frame.time_base = 0, Fraction(1, 25)

    class Container:
        def decode(self, stream):
            yield Turned(frame)

    [upright] = module._frames(av, Container(), None, "x")
    assert np.array_equal(upright.pixels, np.rot90(values, turn // 90))


@pytest.mark.parametrize("content", [b"", b"this is text", b"\0\0\0\x18ftypmp42"])
def test_what_is_no_video(tmp_path, content):
    (tmp_path / "x.mp4").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.mp4"), open_video(tmp_path / "x.mp4"):
        pass


def test_a_video_that_was_cut_off(tmp_path):
    path = film(tmp_path / "x.mp4", 60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"x\.mp4"), open_video(path) as video:
        list(video.frames)


@pytest.mark.parametrize(
    ("source", "says"), [("none.mp4", "no video file"), ("camera:a", "is no camera"), ("camera:97", "cannot open")]
)
def test_sources_that_are_not_there(tmp_path, monkeypatch, source, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=says), open_video(source):
        pass


@pytest.mark.parametrize("source", ["none.mp4", "camera:x"])
def test_a_refusal_of_ours_is_not_wrapped_in_another(source):
    with pytest.raises(UserError, match=r"^(no video file|camera:x is no camera)"), open_video(source):
        pass


def test_what_is_taken_for_a_video():
    assert is_video("camera:0") and is_video("a/B.MOV") and not is_video("x.png") and not is_video("cameras")


def test_writing_is_whole_or_not_at_all(tmp_path):
    with pytest.raises(KeyError), write_video(tmp_path / "x.mp4", Fraction(25)) as write:
        write(np.zeros((16, 16, 3), np.uint8), Fraction(0))
        raise KeyError
    with pytest.raises(UserError, match="no frame"), write_video(tmp_path / "x.mp4", Fraction(25)):
        pass
    with pytest.raises(UserError, match="a frame is"), write_video(tmp_path / "x.mp4", Fraction(25)) as write:
        write(np.zeros((16, 16, 3), np.uint8), Fraction(0))
        write(np.zeros((16, 18, 3), np.uint8), Fraction(1))
    with pytest.raises(UserError, match="cannot write"), write_video(tmp_path / "no" / "x.mp4", Fraction(25)) as write:
        write(np.zeros((16, 16, 3), np.uint8), Fraction(0))
    with pytest.raises(UserError, match="not an MP4"), write_video(tmp_path / "x.avi", Fraction(25)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_without_av_the_extra_is_named(tmp_path, monkeypatch):
    path = film(tmp_path / "x.mp4", 1)
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(UserError, match=r'video needs av, .*pip install "vlseg\[video\]"'), open_video(path):
        pass
