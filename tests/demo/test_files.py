import numpy as np
import pytest
from PIL import Image

from vlseg.demo import files
from vlseg.deploy.errors import UserError


def test_a_picture_comes_with_its_spacing_and_its_neighbours(picture):
    opened, count = files.open_picture(picture)
    assert opened.pixels.shape == (90, 120, 3) and opened.spacing is None and count == 1


def test_the_middle_of_a_stack_is_shown_and_any_may_be_chosen(tmp_path):
    frames = [Image.fromarray(np.full((8, 8, 3), 40 * i, np.uint8)) for i in range(5)]
    frames[0].save(tmp_path / "stack.tif", save_all=True, append_images=frames[1:])
    for index, expected in ((None, 2), (0, 0), (4, 4)):
        opened, count = files.open_picture(tmp_path / "stack.tif", index)
        assert count == 5 and opened.pixels[0, 0, 0] == 40 * expected


def test_errors_name_the_file_and_not_its_folder(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"broken\.png") as caught:
        files.open_picture(tmp_path / "broken.png")
    assert str(tmp_path) not in str(caught.value)


def test_too_many_pixels_are_refused_by_the_header_alone(tmp_path, monkeypatch):
    Image.new("1", (9000, 9000)).save(tmp_path / "vast.png")
    monkeypatch.setattr(files, "open_any", lambda path: pytest.fail("decoded it"))
    with pytest.raises(UserError, match="9000 x 9000 pixels, this page takes 40 million"):
        files.open_picture(tmp_path / "vast.png")


def test_too_many_bytes_are_refused(picture, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 100)
    with pytest.raises(UserError, match="MiB"):
        files.open_picture(picture)


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path):
    Image.new("L", (10, 20), 255).save(tmp_path / "mask.png")
    assert files.open_mask(tmp_path / "mask.png", (20, 10, 3)).all()
    with pytest.raises(UserError, match="10 x 20 pixels and the picture 12 x 30"):
        files.open_mask(tmp_path / "mask.png", (30, 12, 3))
