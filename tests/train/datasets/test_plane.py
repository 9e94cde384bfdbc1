import gzip
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vlseg.deploy.errors import UserError
from vlseg.train.datasets.plane import read_labels, read_plane, to_grey

META = {"u1": "MET_UCHAR", "i2": "MET_SHORT", "u2": "MET_USHORT", "f4": "MET_FLOAT"}
NIFTI = {"u1": 2, "i2": 4, "u2": 512, "f4": 16}


def meta(folder, values, *, compressed=False, big=False, raw="a.raw"):
    data = values.astype(values.dtype.newbyteorder(">" if big else "<")).tobytes()
    (folder / "a.raw").write_bytes(zlib.compress(data) if compressed else data)
    height, width = values.shape
    head = {
        "NDims": 3,
        "DimSize": f"{width} {height} 1",
        "BinaryDataByteOrderMSB": big,
        "ElementType": META[values.dtype.str[1:]],
        "CompressedData": compressed,
        "ElementDataFile": raw,
    }
    (folder / "a.mhd").write_text("\n".join(f"{key} = {value}" for key, value in head.items()))
    return folder / "a.mhd"


def nifti(path, values, *, order="<", slope=0.0, shift=0.0):
    head = bytearray(352)
    struct.pack_into(order + "i", head, 0, 348)
    struct.pack_into(order + "8h", head, 40, 2, values.shape[1], values.shape[0], 1, 1, 1, 1, 1)
    struct.pack_into(order + "2h", head, 70, NIFTI[values.dtype.str[1:]], values.itemsize * 8)
    struct.pack_into(order + "3f", head, 108, 352.0, slope, shift)
    head[344:348] = b"n+1\0"
    data = bytes(head) + values.astype(values.dtype.newbyteorder(order)).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("kind", META)
@pytest.mark.parametrize("odd", [False, True])
def test_medical_files_come_back(tmp_path, kind, odd):
    values = np.random.default_rng(0).integers(0, 200, (13, 7)).astype(kind)
    np.testing.assert_array_equal(read_plane(meta(tmp_path, values, compressed=odd, big=odd)), values)
    path = tmp_path / ("a.nii.gz" if odd else "a.nii")
    np.testing.assert_array_equal(read_plane(nifti(path, values, order=">" if odd else "<")), values)


def test_scaled_nifti_and_grey(tmp_path):
    values = np.array([[0, 10], [20, 30]], np.int16)
    scaled = read_plane(nifti(tmp_path / "a.nii", values, slope=2.0, shift=-5.0))
    np.testing.assert_array_equal(scaled, values * 2 - 5)
    assert to_grey(scaled).tolist() == [[0, 85], [170, 255]]
    assert to_grey(values).tolist() == values.tolist() and to_grey(np.full((2, 2), -3)).max() == 0


def test_labels_of_palettes_and_grey(tmp_path):
    indices = np.array([[0, 1], [2, 255]], np.uint8)
    picture = Image.fromarray(indices).convert("P")
    picture.putpalette([i % 7 * 30 for i in range(768)])
    picture.save(tmp_path / "p.png")
    Image.fromarray(indices).save(tmp_path / "l.png")
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "c.png")
    assert read_labels(tmp_path / "p.png").tolist() == indices.tolist() == read_labels(tmp_path / "l.png").tolist()
    with pytest.raises(UserError, match="has colours"):
        read_labels(tmp_path / "c.png")
    with pytest.raises(UserError, match="cannot read"):
        read_labels(tmp_path / "none.png")


def test_bad_medical_files(tmp_path):
    whole = nifti(tmp_path / "w.nii", np.zeros((50, 50), np.int16)).read_bytes()
    (tmp_path / "cut.nii").write_bytes(whole[:2000])
    (tmp_path / "text.nii.gz").write_bytes(b"no gzip")
    (tmp_path / "deep.nii").write_bytes(whole[:40] + struct.pack("<8h", 3, 5, 5, 4, 1, 1, 1, 1) + whole[56:])
    (tmp_path / "empty.mhd").write_text("NDims = 2")
    away = meta(tmp_path, np.zeros((2, 2), np.uint8), raw="/etc/passwd")
    for path in (tmp_path / "cut.nii", tmp_path / "text.nii.gz", tmp_path / "deep.nii", tmp_path / "empty.mhd", away):
        with pytest.raises(UserError, match="expected a 2-D"):
            read_plane(path)
