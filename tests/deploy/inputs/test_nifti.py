"""NIfTI: slices as a radiologist sees them, and masks back on the very grid of the file."""

import itertools

import numpy as np
import pytest

from vlseg.deploy.errors import UserError
from vlseg.deploy.inputs.files import open_any, read_any
from vlseg.deploy.inputs.nifti import from_slices, read_volume
from vlseg.deploy.outputs.nifti_masks import nifti_bytes

nibabel = pytest.importorskip("nibabel")
RNG = np.random.default_rng(0)
SHAPE, ZOOMS = (7, 6, 5), (1.5, 2.0, 3.0)


def saved(tmp_path, values, affine=None, name="x.nii.gz"):
    nibabel.save(nibabel.Nifti1Image(values, np.diag([*ZOOMS, 1.0]) if affine is None else affine), tmp_path / name)
    return tmp_path / name


def affines():
    """Every way in which axes can be ordered and turned, a little tilted."""
    tilt = np.eye(4)
    tilt[:3, :3] += 0.02 * RNG.normal(size=(3, 3))
    tilt[:3, 3] = [5, -7, 11]
    for order in itertools.permutations(range(3)):
        for signs in itertools.product([1, -1], repeat=3):
            turn = np.zeros((4, 4))
            turn[3, 3] = 1
            for i, (axis, sign) in enumerate(zip(order, signs, strict=True)):
                turn[axis, i] = sign * ZOOMS[i]
            yield tilt @ turn


def test_front_is_up_and_right_is_left(tmp_path):
    values = np.zeros(SHAPE, np.float32)
    values[-1, 0, 2], values[0, -1, 2] = 1, 2  # RAS+: (left, back) is 1, (right, front) is 2
    seen = [picture.pixels[..., 0] for picture in open_any(saved(tmp_path, values), window=(0, 2))]
    assert len(seen) == 5 and seen[0].shape == (6, 7) and not seen[0].any()
    assert seen[2][0, -1] == 255 or seen[2][0, 0] == 255
    assert np.argwhere(seen[2] == 255).tolist() == [[0, 6]]
    assert np.argwhere(seen[2] == 128).tolist() == [[5, 0]]


def test_every_orientation_shows_the_same_and_comes_back(tmp_path):
    world = saved(tmp_path, RNG.normal(size=SHAPE).astype(np.float32))
    expected = np.stack([picture.pixels for picture in open_any(world, window=(-2, 2))])
    image = nibabel.load(world)
    for flip in itertools.product([1, -1], repeat=3):
        orientation = [[axis, sign] for axis, sign in zip((2, 0, 1), flip, strict=True)]
        path = tmp_path / "turned.nii"
        nibabel.save(image.as_reoriented(np.array(orientation)), path)
        found = open_any(path, window=(-2, 2))
        assert np.array_equal(np.stack([picture.pixels for picture in found]), expected)
        assert found.read(0).spacing == pytest.approx((2.0, 1.5))


def test_masks_keep_affine_codes_and_grid(tmp_path):
    for affine in affines():
        values = RNG.normal(size=SHAPE).astype(np.float32)
        path = saved(tmp_path, values, affine)
        volume = read_volume(path)
        slices = np.stack([picture.pixels[..., 0] for picture in open_any(path, window=(-3, 3))]) > 127
        assert np.array_equal(from_slices(slices, volume), np.rint((values.clip(-3, 3) + 3) * (255 / 6)) > 127)
        (tmp_path / "mask.nii").write_bytes(nifti_bytes(slices.astype(np.uint8), volume))
        source, mask = nibabel.load(path), nibabel.load(tmp_path / "mask.nii")
        assert np.array_equal(mask.affine, source.affine) and mask.shape == source.shape
        assert mask.get_data_dtype() == np.uint8 and mask.header.get_xyzt_units() == source.header.get_xyzt_units()
        for code in ("sform_code", "qform_code"):
            assert mask.header[code] == source.header[code]
        assert np.array_equal(np.asarray(mask.dataobj) > 0, from_slices(slices, volume))


def test_a_volume_has_one_window(tmp_path):
    values = RNG.normal(size=(20, 20, 5)).astype(np.float32)
    values[..., 3] *= 100
    low, high = np.percentile(values, (0.5, 99.5))
    for k, picture in enumerate(open_any(saved(tmp_path, values))):
        expected = np.rint((values[::-1, ::-1, k].T.clip(low, high) - low) * (255 / (high - low)))
        assert np.abs(picture.pixels[..., 0] - expected).max() <= 1
        assert picture.meta["window"] == pytest.approx((low, high))


@pytest.mark.parametrize(("unit", "scale"), [("mm", 1.0), ("micron", 0.001), ("meter", 1000.0)])
def test_spacing_is_in_millimetres(tmp_path, unit, scale):
    image = nibabel.Nifti1Image(np.zeros(SHAPE, np.float32), np.diag([*ZOOMS, 1.0]))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "x.nii")
    assert read_any(tmp_path / "x.nii", index=0).spacing == pytest.approx((2.0 * scale, 1.5 * scale))


@pytest.mark.parametrize("shape", [(7, 6), (7, 6, 1), (7, 6, 5, 1)])
def test_shapes_that_are_one_volume(tmp_path, shape):
    values = RNG.normal(size=shape).astype(np.float32)
    path = saved(tmp_path, values)
    slices = np.stack([picture.pixels[..., 0] for picture in open_any(path, window=(-3, 3))])
    assert nibabel.Nifti1Image.from_bytes(nifti_bytes(slices, read_volume(path))).shape == values.shape


@pytest.mark.parametrize("shape", [(7, 6, 5, 2), (0, 6, 5)])
def test_shapes_that_are_not(tmp_path, shape):
    with pytest.raises(UserError, match="expected one gray volume"):
        open_any(saved(tmp_path, np.zeros(shape, np.float32)))


def test_a_size_that_nobody_can_hold(tmp_path):
    image = nibabel.Nifti1Image(np.zeros(SHAPE, np.uint8), np.eye(4))
    header = image.header.copy()
    header.set_data_shape((30_000, 30_000, 30_000))
    (tmp_path / "bomb.nii").write_bytes(header.binaryblock + b"\0" * 4 + bytes(100))
    with pytest.raises(UserError, match="crop it first"):
        open_any(tmp_path / "bomb.nii")


def test_nan_is_refused(tmp_path):
    values = np.zeros(SHAPE, np.float32)
    values[1, 2, 3] = np.nan
    with pytest.raises(UserError, match="NaN"):
        open_any(saved(tmp_path, values))


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
@pytest.mark.parametrize("keep", [0.1, 0.6])
def test_a_file_that_was_cut_off(tmp_path, name, keep):
    path = saved(tmp_path, RNG.normal(size=SHAPE).astype(np.float32), name=name)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(UserError, match=r"x\.nii"):
        open_any(path)


def test_without_nibabel_the_extra_is_named(tmp_path, monkeypatch):
    path = saved(tmp_path, np.zeros(SHAPE, np.float32))
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    with pytest.raises(UserError, match=r'NIfTI needs nibabel, .*pip install "vlseg\[medical\]"'):
        open_any(path)
