import io
import time
from base64 import b64decode

import numpy as np
import pytest
from PIL import Image

from vlseg.deploy.errors import UserError
from vlseg.deploy.segmenter import Segmenter

pytest.importorskip("gradio")

from vlseg.demo.overlay import draw_mask
from vlseg.demo.tabs.stream import EVERY_S, Watch, answer, one, play


def frame(i=0):
    y, x = np.mgrid[0:48, 0:64]
    return np.repeat((40 + 200 * (np.hypot(y - 24, x - 10 - 4 * i) < 9)).astype(np.uint8)[..., None], 3, axis=2)


def pixels(html):
    return np.asarray(Image.open(io.BytesIO(b64decode(html.partition("base64,")[2].partition('"')[0]))))


def test_a_frame_is_drawn_with_its_mask_and_not_remembered(models, bright):
    html, work = answer(models, "bright", frame(), "a disc")
    with Segmenter.open(bright, threads=1) as segmenter:
        expected = draw_mask(frame(), segmenter.segment(frame(), "a disc"))
    assert np.abs(pixels(html).astype(int) - expected).mean() < 6 and work > 0
    assert len(models._open._caches["image"]) == 0


def test_a_browsers_camera_counts_what_did_not_come(models, monkeypatch):
    clock = iter([100.0, 100.0 + EVERY_S, 100.0 + 5 * EVERY_S + 0.01])
    monkeypatch.setattr("vlseg.demo.tabs.stream.monotonic", lambda: next(clock))
    watch = None
    for i in range(3):
        watch, _, told = one(models, watch, frame(i), "a disc", "bright")
    assert (watch.pace.shown, watch.pace.dropped) == (3, 3)
    assert "3 shown, 3 dropped (50%)" in told


def test_a_camera_that_stopped_begins_anew(models):
    watch, *_ = one(models, Watch(began=1.0), None, "a disc", "bright")
    assert watch.began is None and watch.pace.shown == 0


def test_an_empty_prompt_is_said(models):
    with pytest.raises(UserError, match="prompt is empty"):
        one(models, None, frame(), " ", "bright")


@pytest.fixture
def video(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "moving.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=20)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        for i in range(10):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame(i), format="rgb24")))
        out.mux(stream.encode())
    return path


def test_a_video_takes_as_long_as_it_lasts(models, video):
    start = time.monotonic()
    shown = list(play(models, str(video), "a disc", "bright"))
    assert 0.4 < time.monotonic() - start < 2
    assert "frames/s" in shown[-1][1] and "of 20 that come" in shown[-1][1]


def test_a_slow_model_drops_frames_and_says_so(models, video, monkeypatch):
    def slow(*given):
        time.sleep(0.12)
        return "<img>", 120.0

    monkeypatch.setattr("vlseg.demo.tabs.stream.answer", slow)
    shown = list(play(models, str(video), "a disc", "bright"))
    assert 3 <= len(shown) <= 7
    assert f"{len(shown)} shown" in shown[-1][1] and "0 dropped" not in shown[-1][1]


def test_a_file_that_is_no_video_is_said(models, tmp_path):
    pytest.importorskip("av")
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"broken\.mp4"):
        list(play(models, str(tmp_path / "broken.mp4"), "a disc", "bright"))
