"""What holds for every picture, sentence, mask, tile and weight, tried on drawn ones."""

import json

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn
from torch.nn.functional import interpolate

from vlseg.deploy.metrics import dice, iou
from vlseg.deploy.outputs.rle import bounding_box, from_rle, to_rle
from vlseg.deploy.pixels import mask_of, to_input, to_mask, to_probability
from vlseg.deploy.tiles import blend, lay
from vlseg.deploy.window import apply_window, parse_window
from vlseg.deploy.words import CONTEXT
from vlseg.train.datasets.runs import decode_runs
from vlseg.train.models import linear_folds

from .targets import tokenizers

FEW = settings(max_examples=60)
SIDES = st.tuples(st.integers(1, 60), st.integers(1, 60))
PICTURES = SIDES.flatmap(lambda side: arrays(np.uint8, (*side, 3)))
MASKS = SIDES.flatmap(lambda side: arrays(bool, side))
WORDS = st.sampled_from(["polyp", "red", "a", "aa", " ", "\n", "<|endoftext|>"])
TEXTS = st.text(max_size=200) | st.lists(WORDS).map(" ".join)
LOGITS = st.tuples(st.integers(1, 20)).map(lambda n: n * 2)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


@FEW
@given(image=PICTURES, size=st.integers(1, 48))
def test_a_picture_becomes_what_float64_says(image, size):
    """Bilinear with antialiasing as torch has it in float64; Pillow rounds to bytes twice, once for each direction."""
    found = to_input(image, size, MEAN, STD)
    assert found.shape == (3, size, size) and found.dtype == np.float32 and np.isfinite(found).all()
    planes = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float64))
    small = interpolate(planes, (size, size), mode="bilinear", antialias=True, align_corners=False)[0].numpy()
    mean, std = np.array(MEAN)[:, None, None], np.array(STD)[:, None, None]
    assert (np.abs(found - (small / 255 - mean) / std) <= 2 / 255 / std).all()


@FEW
@given(logits=arrays(np.float32, LOGITS, elements=st.floats(-80, 80, width=32)), side=SIDES, threshold=st.floats(0, 1))
def test_a_mask_is_its_probability_above_the_threshold(logits, side, threshold):
    probability = to_probability(logits, *side)
    assert probability.shape == side and probability.min() >= -1e-6 and probability.max() <= 1 + 1e-6
    assert np.array_equal(mask_of(logits, *side, threshold), to_mask(probability, threshold))


@FEW
@given(texts=st.lists(TEXTS, min_size=1, max_size=4), length=st.none() | st.integers(3, CONTEXT))
@example(texts=["\x00"], length=None)
@example(texts=["a" * 5000, ""], length=3)
def test_words_are_the_librarys_own_cut_and_padded(texts, length):
    assume(all(text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text) for text in texts))
    for tokenizer in tokenizers():
        ids, mask = tokenizer(texts, length)
        whole = [encoding.ids for encoding in tokenizer._library.encode_batch(texts)]
        width = length or min(CONTEXT, max(map(len, whole)))
        assert ids.shape == mask.shape == (len(texts), ids.shape[1]) and ids.shape[1] <= width
        for row, seen, full in zip(ids.tolist(), mask.tolist(), whole, strict=True):
            kept = sum(seen)
            assert seen == [1] * kept + [0] * (len(row) - kept) and row[kept - 1 :] == [tokenizer.end] * (
                len(row) - kept + 1
            )
            assert row[: kept - 1] == full[: kept - 1]
            assert kept == min(len(full), width) or (tokenizer.whole_words and kept < min(len(full), width))


@FEW
@given(texts=st.lists(TEXTS, min_size=2, max_size=4))
def test_a_sentence_does_not_depend_on_its_neighbours(texts):
    for tokenizer in tokenizers():
        ids, mask = tokenizer(texts, CONTEXT)
        for i, text in enumerate(texts):
            alone = tokenizer([text], CONTEXT)
            assert np.array_equal(ids[i], alone[0][0]) and np.array_equal(mask[i], alone[1][0])


@given(mask=MASKS)
def test_runs_there_and_back(mask):
    rle = json.loads(json.dumps(to_rle(mask)))
    assert np.array_equal(from_rle(rle), mask) and np.array_equal(decode_runs(rle, "a mask"), mask)
    left, top, width, height = bounding_box(mask)
    assert mask[top : top + height, left : left + width].sum() == mask.sum()


@given(pair=SIDES.flatmap(lambda side: st.tuples(arrays(bool, side), arrays(bool, side))))
def test_overlap_is_symmetric_and_bounded(pair):
    one, other = pair
    assert dice(one, other) == dice(other, one) and iou(one, other) == iou(other, one)
    assert 0 <= iou(one, other) <= dice(one, other) <= 1 and dice(one, one) == 1
    assert dice(one, other) == pytest.approx(2 * iou(one, other) / (1 + iou(one, other)))


@FEW
@given(side=st.tuples(st.integers(1, 90), st.integers(1, 90)), tile=st.integers(1, 100), overlap=st.floats(0, 0.9),
       batch=st.integers(1, 7))  # fmt: skip
def test_tiles_of_what_is_known_give_it_back(side, tile, overlap, batch):
    """Where every tile tells the truth, so does the whole, whatever the tiles, and each pixel is asked for."""
    assume(tile * (1 - overlap) > 3 or max(side) < 20)  # else there are thousands
    image = np.random.default_rng(0).integers(0, 256, (*side, 3), dtype=np.uint8)
    grid = lay(side, tile, overlap)
    covered = np.zeros(side, int)
    for place in grid:
        covered[place] += 1
    assert covered.min() >= 1 and len(list(grid)) == len(grid)
    found = blend(image, grid, lambda tiles: [one[..., 0].astype(np.float32) / 255 for one in tiles], batch)
    assert np.abs(found - image[..., 0] / 255).max() < 1e-5


@given(
    low=st.floats(-1e6, 1e6), width=st.floats(1e-3, 1e6), values=arrays(np.float64, 9, elements=st.floats(-1e7, 1e7))
)
def test_a_window_keeps_the_order(low, width, values):
    gray = apply_window(values, low, low + width)
    assert gray.dtype == np.uint8 and (np.diff(gray[np.argsort(values)].astype(int)) >= 0).all()
    assert (gray[values <= low] == 0).all() and (gray[values >= low + width] == 255).all()
    assert parse_window(f"{low!r},{low + width!r}") == (low, low + width)


SIZES = st.integers(1, 12)


@FEW
@given(rows=SIZES, inner=SIZES, outer=SIZES, rank=SIZES, seed=st.integers(0, 2**31), scale=st.floats(0.01, 100))
def test_folds_are_exact(rows, inner, outer, rank, seed, scale):
    """In float64, to 1e-12 of the size of what is computed."""
    torch.manual_seed(seed)
    linear, down = nn.Linear(inner, outer).double(), nn.Linear(outer, rank).double()
    norm, a = nn.LayerNorm(inner).double(), torch.randn(rows, inner, dtype=torch.float64) * scale
    gate = torch.randn(outer, dtype=torch.float64)
    with torch.no_grad():
        norm.weight.normal_(), norm.bias.normal_()
        bare, (reader,) = linear_folds.fold_layernorm(norm, [linear])
        pairs = [
            (linear_folds.fold_down(linear, down)(a), torch.cat([linear(a), down(linear(a))], -1)),
            (linear_folds.fold_gate(linear, gate)(a), gate * linear(a)),
            (reader(bare(a)), linear(norm(a))),
        ]
    for found, expected in pairs:
        bound = 1e-12 * max(1.0, float(expected.abs().max()), scale)
        torch.testing.assert_close(found, expected, rtol=0, atol=bound)
