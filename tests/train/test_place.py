import pytest

from vlseg.deploy.annotations import read_split
from vlseg.deploy.errors import UserError
from vlseg.train.place import Place, session_of


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="choose another folder"):
        Place(tmp_path).check()
    with pytest.raises(UserError, match="is a file"):
        Place(tmp_path / "thesis.txt").check()
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "notes.txt").write_text("mine")
    Place(tmp_path).discard_state()
    assert (tmp_path / "state" / "notes.txt").exists()
    (tmp_path / "empty").mkdir()
    Place(tmp_path / "empty").check()
    Place(tmp_path / "absent").check()


def test_a_session_must_be_the_same_to_go_on(tmp_path, nano, shapes):
    place = Place(tmp_path / "run")
    splits = {name: read_split(shapes, name) for name in ("train", "val")}
    place.begin(session_of(nano, splits), resume=True)
    place.checkpoint.write_text("progress")
    place.check()
    place.begin(session_of(nano.replace(max_epochs=9, num_workers=1), splits), resume=True)
    with pytest.raises(UserError, match=r"started with lr = 0\.001, not 0\.1"):
        place.begin(session_of(nano.replace(lr=0.1), splits), resume=True)
    with pytest.raises(UserError, match="other data"):
        place.begin(session_of(nano, splits | {"val": splits["val"][:-1]}), resume=True)
    assert place.checkpoint.exists()
    place.begin(session_of(nano.replace(lr=0.1), splits), resume=False)
    assert not place.checkpoint.exists() and place.session.exists()


def test_finishing_drops_the_state(tmp_path, nano):
    place = Place(tmp_path)
    place.begin(session_of(nano, {"train": [], "val": []}), resume=True)
    finished = place.state / "finished"
    finished.mkdir()
    for name in ("run.json", "trained.safetensors"):
        (finished / name).write_text("{}")
    assert not place.finished
    place.finish(finished)
    assert place.finished and sorted(p.name for p in tmp_path.iterdir()) == ["run.json", "trained.safetensors"]
