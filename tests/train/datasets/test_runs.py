import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlseg.deploy.errors import UserError
from vlseg.train.datasets.runs import decode_runs


def encode(mask):
    """Write COCO's text as its C code does, number by number."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts, text = np.diff([*([0] if flat[0] else []), 0, *edges, len(flat)]).tolist(), ""
    for i, count in enumerate(counts):
        value = count - (counts[i - 2] if i > 2 else 0)
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr((bits | (32 if more else 0)) + 48)
    return {"size": list(mask.shape), "counts": text}


# written by pycocotools
KNOWN = "1100111 1011010 0010011 0110010 1011001"


def test_the_librarys_own_text():
    mask = decode_runs({"size": [5, 7], "counts": "02200O03OM1122MM0000"}, "x")
    assert " ".join("".join(str(int(value)) for value in row) for row in mask) == KNOWN
    sparse = {"size": [40, 33], "counts": b"b01W30^O0iN0gN0R20QN0a30H0^M0E0B0j20lM0M01040[O0P41nK0[5O_M0SN"}
    assert decode_runs(sparse, "x").sum() == 24
    box = {"size": [300, 200], "counts": "li8V7V2" + "0" * 297 + "lj5"}
    expected = np.zeros((300, 200), bool)
    expected[20:250, 30:180] = True
    np.testing.assert_array_equal(decode_runs(box, "x"), expected)


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 99))
def test_text_and_plain_runs_come_back(height, width, share, seed):
    mask = np.random.default_rng(seed).random((height, width)) < share
    np.testing.assert_array_equal(decode_runs(encode(mask), "x"), mask)


def test_plain_runs():
    assert decode_runs({"size": [2, 3], "counts": [1, 2, 3]}, "x").astype(int).tolist() == [[0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    "coded",
    [
        {"size": [2, 3], "counts": [1, 2]},
        {"size": [2, 3], "counts": [7, -1]},
        {"size": [2], "counts": [2]},
        {"counts": [2]},
        {"size": [2, 3], "counts": None},
        {"size": [10**6, 10**6], "counts": [10**12]},
    ],
)
def test_bad_runs(coded):
    with pytest.raises(UserError, match=r"file\.json"):
        decode_runs(coded, "file.json")
