"""Tensors as the batches of rows that a launch takes."""

import pytest
import torch

pytest.importorskip("triton")

from vlseg.kernels.launch import GRID_LIMIT, as_batches, splits_for


def test_rows_are_counted_through_where_strides_allow():
    (packed,) = as_batches(torch.zeros(3, 5, 8))
    assert packed is not None and packed.shape == (1, 15, 8)
    wide = torch.zeros(3, 5, 20)
    (sliced,) = as_batches(wide[..., 4:12])
    assert sliced is not None and sliced.shape == (1, 15, 8) and sliced.stride() == (15 * 20, 20, 1)
    (kept,) = as_batches(wide[:, 2:, :8])
    assert kept is not None and kept.shape == (3, 3, 8) and kept.data_ptr() == wide[:, 2:].data_ptr()


def test_more_batches_than_a_grid_counts_are_packed():
    rows = torch.zeros(2, 8)
    inside, beyond = (as_batches(rows.expand(count, 2, 8))[0] for count in (GRID_LIMIT, GRID_LIMIT + 1))
    assert inside is not None and inside.shape == (GRID_LIMIT, 2, 8)
    assert beyond is not None and beyond.shape == (1, 2 * (GRID_LIMIT + 1), 8)


@pytest.mark.parametrize(("rows", "programs"), [(1, 1), (485, 12), (4096, 12), (131072, 24), (77, 400)])
def test_splits_cover_every_row_with_whole_tiles(rows, programs):
    splits, each = splits_for(rows, 32, programs)
    assert each % 32 == 0 and splits * each >= rows and (splits - 1) * each < rows and splits <= 32
