"""What every launch needs: the interpreter's presence, tensors as batches of rows, dtypes and precision for Triton."""

import itertools
import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from .forms import HEAD_LIMIT, RANK_LIMIT

INTERPRETED: bool = triton.knobs.runtime.interpret  # pyright: ignore[reportAttributeAccessIssue]
"""Whether Triton runs its kernels in Python on CPU tensors (TRITON_INTERPRET=1 when triton was first imported)."""

DTYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}

GRID_LIMIT = 65535
"""Most programs on the second and third axis of a CUDA grid, which count images."""


def require_fused(name: str, tensors: dict[str, Tensor | None]) -> None:
    """Refuse tensors that the Triton kernels cannot take, one sentence each; nothing falls back."""
    lead = next(iter(tensors.values()))
    assert lead is not None
    if lead.device.type != "cuda" and not (INTERPRETED and lead.device.type == "cpu"):
        raise ValueError(
            f"{name} is on {lead.device} but impl is 'fused': move it to a CUDA device, or say impl='reference'"
        )
    for role, tensor in tensors.items():
        if tensor is None:
            continue
        if tensor.dtype not in DTYPES:
            raise TypeError(
                f"{role} is {tensor.dtype}: the fused operators take float32, float16 and bfloat16, "
                "say impl='reference'"
            )
        if tensor.numel() and tensor.shape[-1] > 1 and tensor.stride(-1) != 1:
            raise ValueError(
                f"{role} {tuple(tensor.shape)} has stride {tensor.stride(-1)} on its last axis: expected 1, "
                "call contiguous()"
            )


def require_rank(rank: int) -> None:
    """Refuse a bottleneck whose hidden does not fit into registers."""
    if rank > RANK_LIMIT:
        raise ValueError(f"the rank is {rank}: the fused bottleneck holds at most {RANK_LIMIT}, say impl='reference'")


def require_head(heads: int, inner: int) -> None:
    """Refuse a flash-style attention whose head does not fit into registers."""
    if inner > heads * HEAD_LIMIT:
        raise ValueError(
            f"the head size is {inner // heads} ({inner} / {heads} heads): the fused attention of many tokens holds at "
            f"most {HEAD_LIMIT}, say impl='reference'"
        )


def require_batch(batch: int) -> None:
    """Refuse more images than a grid counts."""
    if batch > GRID_LIMIT:
        raise ValueError(f"the batch is {batch}: a launch takes at most {GRID_LIMIT} images, split it")


def compute_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of the products: autocast's where it is on, else that of `x`."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def precision(dtype: torch.dtype) -> str:
    """Return how fp32 products are made: exactly, unless PyTorch itself was told to use TF32."""
    return "tf32" if dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest" else "ieee"


def rows_contiguous(x: Tensor) -> Tensor:
    """Return `x` with unit stride on its last axis; a copy only where it had none, as an expanded gradient has."""
    return x if x.shape[-1] <= 1 or x.stride(-1) == 1 else x.contiguous()


def as_batches(*tensors: Tensor | None) -> list[Tensor | None]:
    """Return tensors of equal leading shape as (batch, rows, width) views, with batch 1 where all allow it.

    More images than a grid counts are packed first.
    """
    present = [t for t in tensors if t is not None]
    if all(_collapses(t) for t in present):
        return [None if t is None else t.view(1, -1, t.shape[-1]) for t in tensors]
    if math.prod(present[0].shape[:-2]) > GRID_LIMIT:
        return [None if t is None else t.reshape(1, -1, t.shape[-1]) for t in tensors]
    return [None if t is None else t.reshape(-1, *t.shape[-2:]) for t in tensors]


def _collapses(x: Tensor) -> bool:
    """Return whether all leading axes share one stride, so that rows can be counted through."""
    sizes, strides = x.shape[:-1], x.stride()[:-1]
    inner = [(n, s) for n, s in zip(sizes, strides, strict=True) if n != 1]
    return all(outer[1] == n * s for outer, (n, s) in itertools.pairwise(inner))


def strides(x: Tensor | None) -> tuple[int, int]:
    """Return (batch stride, row stride) of (batch, rows, width), zeros for None."""
    return (0, 0) if x is None else (x.stride(0), x.stride(1))


def splits_for(rows: int, tile_rows: int, programs: int, wanted: int = 264, at_most: int = 32) -> tuple[int, int]:
    """Return (splits, rows for each) so that `programs` x splits fill a GPU, whole tiles to each split.

    The numbers depend on the shape alone, never on the device, so that sums come in the same order everywhere.
    """
    tiles = max(1, -(-rows // tile_rows))
    splits = max(1, min(at_most, tiles, -(-wanted // max(1, programs))))
    rows_each = -(-tiles // splits) * tile_rows
    return -(-max(rows, 1) // rows_each), rows_each
