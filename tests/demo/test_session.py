import numpy as np
import pytest

from vlseg.demo.session import LONGEST, Session, fitted, looking_at, see
from vlseg.deploy.errors import UserError

pytest.importorskip("gradio")


def test_a_picture_is_read_once(picture, monkeypatch):
    kept, seen = looking_at(Session(), str(picture))
    monkeypatch.setattr("vlseg.demo.session.open_picture", lambda file: pytest.fail("read it again"))
    assert looking_at(kept, str(picture)) == (kept, seen)
    assert kept.seen is seen and seen.decode_ms > 0


def test_another_picture_forgets_the_answer(picture, tmp_path):
    kept, _ = looking_at(Session(), str(picture))
    (tmp_path / "other.png").write_bytes(picture.read_bytes())
    assert looking_at(kept, str(tmp_path / "other.png"))[0].answer is None


def test_no_picture_is_said():
    with pytest.raises(UserError, match="no picture yet"):
        looking_at(Session(), None)


def test_what_browsers_do_not_show_is_shown_as_png_and_known_by_it(picture, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    seen = see(str(picture))
    assert seen.shown.endswith("disc-0.png") and str(tmp_path) in seen.shown
    assert looking_at(Session(seen), seen.shown)[1] is seen


def test_only_what_is_too_large_for_the_screen_is_made_smaller():
    small = np.zeros((30, 40, 3), np.uint8)
    assert fitted(small) is small
    assert fitted(np.zeros((3 * LONGEST, LONGEST), np.float32)).shape == (LONGEST, round(LONGEST / 3))
    assert fitted(np.zeros((2, 5000), np.float32), 100).shape == (1, 100)
