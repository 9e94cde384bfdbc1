"""Every kernel variant that the models use, ready for an ahead-of-time compile.

plugin  forward kernels that ride inside an engine: packed tensors, every stride a constant, one integer argument at
        most, no float and no scratch; held to 0 spills and 48 KiB of shared memory on every architecture.
torch   the forward and backward kernels as PyTorch launches them, with strides as arguments.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import triton.language as tl

from . import tiles
from .attention_kernels import attend_backward_keys, attend_backward_queries, attend_forward
from .bottleneck_kernels import bottleneck_backward_columns, bottleneck_backward_rows, bottleneck_forward
from .forms import adapter_layout, power_of_two
from .fusion_kernels import closed_forward, text_adapter
from .pooling_kernels import pool_backward, pool_forward, pooling_finish, pooling_query

ARCHITECTURES = (80, 86, 87, 89, 90, 100, 110, 120)
TORCH_ARCHITECTURES = (80, 89, 90)
SHARED_LIMIT = 48 * 1024

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
LANGUAGE = {"fp32": tl.float32, "fp16": tl.float16, "bf16": tl.bfloat16}


@dataclass(frozen=True)
class Variant:
    """One compile: the kernel, the type of each pointer and integer that stays an argument, and all constants."""

    operator: str
    kernel: Any
    variant: Literal["plugin", "torch"]
    dtype: str
    arguments: dict[str, str]
    constants: dict[str, Any]
    warps: int
    stages: int
    shape: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The file name of the variant: kernel, shape, dtype, and the kind of variant."""
        sizes = "_".join(f"{key}{value}" for key, value in self.shape.items())
        return f"{self.kernel.__name__}_{sizes}_{self.dtype}_{self.variant}"

    def signature(self) -> dict[str, str]:
        """Return every argument of the kernel with its type, "constexpr" for what is a constant or absent."""
        return {name: self.arguments.get(name, "constexpr") for name in self.kernel.arg_names}

    def bound(self) -> dict[str, Any]:
        """Return the constants; an argument that is neither an argument nor a constant is absent: None."""
        return {name: self.constants.get(name) for name in self.kernel.arg_names if name not in self.arguments}


def _pointers(names: str, dtype: str) -> dict[str, str]:
    """Return the pointer arguments of one dtype."""
    return {f"{name}_ptr": f"*{dtype}" for name in names.split()}


def _products(dtype: str) -> dict[str, Any]:
    """Return the constants of matrix products."""
    return {"COMPUTE": LANGUAGE[dtype], "PRECISION": "ieee"}


def bottleneck_variant(
    dtype: str,
    width: int,
    rank: int,
    *,
    normed: bool = False,
    folded: bool = False,
    groups: int = 0,
    tokens: int = 4096,
) -> Variant:
    """Return `bottleneck_forward` as a plugin: one adapter of a model, or the adapter made from the text (`groups`)."""
    tile = tiles.forward_tile(DTYPES[dtype], power_of_two(rank, 16), tokens)
    columns = -(-width // (tile.shares * tile.block)) * tile.block
    names = (
        "x up up_bias y" + (" hidden" if folded else " down down_bias") + (" norm_weight norm_bias" if normed else "")
    )
    made = {"down_bias_ptr": "*fp32", "up_bias_ptr": "*fp32"} if groups else {"tokens": "i32"}
    constants = {
        **dict.fromkeys(("x_batch", "y_batch"), tokens * width if groups else 0),
        **dict.fromkeys(("hidden_batch", "residual_batch"), 0),
        "weight_batch": int(groups > 0),
        "tokens": tokens,
        **dict.fromkeys(("x_row", "y_row", "residual_row"), width),
        "hidden_row": rank,
        "scale_stride": 1,
        "WIDTH": width,
        "RANK": rank,
        "INNER": "softmax" if groups else "relu",
        "OUTER": "identity" if normed else "relu",
        "GROUPS": max(groups, 1),
        "EPS": 1e-5,
        "ROWS": tile.rows,
        "BLOCK": tile.block,
        "COLUMNS": columns,
        "BLOCK_RANK": power_of_two(rank, 16),
        **_products(dtype),
    }
    arguments = _pointers(names, dtype) | made
    constants = {name: value for name, value in constants.items() if name not in arguments}
    shape = {"w": width, "r": rank, "norm": int(normed), "folded": int(folded), "groups": groups, "n": tokens}
    return Variant(
        "bottleneck", bottleneck_forward, "plugin", dtype, arguments, constants, tile.warps, tile.stages, shape
    )


def bottleneck_torch(dtype: str, width: int, rank: int, normed: bool, tokens: int = 4096) -> list[Variant]:
    """Return the three kernels of the bottleneck as PyTorch launches them."""
    norm = " norm_weight norm_bias" if normed else ""
    integers = "tokens x_batch x_row gradient_batch gradient_row weight_batch scale_stride"
    base = {
        "WIDTH": width,
        "RANK": rank,
        "OUTER": "identity" if normed else "relu",
        "BLOCK_RANK": power_of_two(rank, 16),
        **_products(dtype),
    }
    inner = {"INNER": "relu", "GROUPS": 1, "EPS": 1e-5}
    statistics = {"statistics_ptr": "*fp32"} if normed else {}
    rows = "x down down_bias up up_bias gradient dx h dz" + norm
    columns = "x down up up_bias gradient h dz" + norm
    plugin = bottleneck_variant(dtype, width, rank, normed=normed, tokens=tokens)
    strides = (  # noqa: SIM905
        "tokens x_batch x_row hidden_batch hidden_row residual_batch residual_row "
        "y_batch y_row weight_batch scale_stride"
    ).split()
    forward = Variant(
        "bottleneck",
        bottleneck_forward,
        "torch",
        dtype,
        plugin.arguments | dict.fromkeys(strides, "i32"),
        {name: value for name, value in plugin.constants.items() if name not in strides},
        plugin.warps,
        plugin.stages,
        plugin.shape,
    )
    found = [forward]
    for kernel, names, extra, constants in (
        (bottleneck_backward_rows, rows, "hidden_batch hidden_row", inner),
        (bottleneck_backward_columns, columns, "rows_per_split splits partial_row", {}),
    ):
        tile = tiles.DEFAULTS[kernel.__name__](DTYPES[dtype], power_of_two(rank, 16), tokens)
        arguments = _pointers(names, dtype) | statistics | dict.fromkeys(f"{integers} {extra}".split(), "i32")
        arguments |= {"partial_ptr": "*fp32"} if kernel is bottleneck_backward_columns else {}
        cut = {"ROWS": tile.rows, "BLOCK": tile.block}
        shape = {"w": width, "r": rank, "norm": int(normed), "n": tokens}
        found.append(
            Variant(
                "bottleneck", kernel, "torch", dtype, arguments, base | constants | cut, tile.warps, tile.stages, shape
            )
        )
    return found


def closed_variant(dtype: str, width: int = 768, inner: int = 96, tokens: int = 4096) -> Variant:
    """Return the gated cross-attention with one text token as a plugin."""
    tile = tiles.closed_tile(DTYPES[dtype], inner, tokens)
    names = "vision text norm_weight norm_bias value_weight value_bias out_weight out_bias gamma y"
    constants = {
        "tokens": tokens,
        "rows_per_share": -(-tokens // (tile.shares * tile.rows)) * tile.rows,
        "vision_batch": tokens * width,
        "vision_row": width,
        "text_batch": width,
        "WIDTH": width,
        "INNER": inner,
        "EPS": 1e-5,
        "ROWS": tile.rows,
        "BLOCK": tile.block,
        "BLOCK_INNER": 16,
        "BLOCK_WIDTH": power_of_two(width),
    }
    shape = {"w": width, "i": inner, "n": tokens}
    return Variant(
        "gated_cross_attention",
        closed_forward,
        "plugin",
        dtype,
        _pointers(names, dtype),
        constants,
        tile.warps,
        tile.stages,
        shape,
    )


def adapter_variant(dtype: str, text_tokens: int, width: int = 768, inner: int = 96, heads: int = 1) -> Variant:
    """Return the kernel that makes an adapter from the text."""
    slots = adapter_layout(heads, text_tokens)
    names = (
        "text norm_weight norm_bias query_weight query_bias key_weight key_bias value_weight value_bias "
        "out_weight out_bias gamma down up"
    )
    arguments = _pointers(names, dtype) | {"down_bias_ptr": "*fp32", "up_bias_ptr": "*fp32"}
    constants = {
        "text_batch": text_tokens * width,
        "text_row": width,
        "WIDTH": width,
        "TOKENS": text_tokens,
        "HEADS": heads,
        "HEAD": inner // heads,
        "SCALE": (inner // heads) ** -0.5,
        "EPS": 1e-5,
        "TOKEN_SLOTS": slots[1],
        "RANK": slots[0] * slots[1],
        "BLOCK_INNER": 8,
        "BLOCK_WIDTH": power_of_two(width),
    }
    shape = {"w": width, "i": inner, "k": text_tokens, "h": heads}
    return Variant("gated_cross_attention", text_adapter, "plugin", dtype, arguments, constants, 8, 2, shape)


def pooling_variants(
    dtype: str, width: int = 768, inner: int = 96, queries: int = 1, tokens: int = 4096
) -> list[Variant]:
    """Return the three forward kernels of the absorbed text pooling as plugins, and its backward."""
    tile = tiles.pool_tile(DTYPES[dtype], queries, tokens)
    text = {
        "text_batch": queries * width,
        "text_row": width,
        "WIDTH": width,
        "TOKENS": queries,
        "HEADS": 1,
        "HEAD": inner,
    }
    small = {"BLOCK_INNER": 8, "BLOCK_WIDTH": power_of_two(width)}
    blocks = -(-tokens // tile.rows)
    query = _pointers("text norm_weight norm_bias query_weight query_bias key_weight vision_weight query", dtype)
    finish = _pointers("text vision_weight vision_bias value_weight value_bias out_weight out_bias y", dtype)
    partial = {"partial_ptr": "*fp32", "softmax_ptr": "*fp32"}
    sweep = {
        "tokens": tokens,
        "blocks": blocks,
        "vision_batch": tokens * width,
        "vision_row": width,
        "WIDTH": width,
        "QUERY_COUNT": queries,
        "EPS": 1e-5,
        "QUERIES": power_of_two(queries, 16),
        "ROWS": tile.rows,
        "BLOCK": tile.block,
        **_products(dtype),
    }
    finishing = text | small | {"blocks": blocks, "BLOCKS": power_of_two(blocks), "STEP": 8}
    asking = text | small | {"SCALE": inner**-0.5, "EPS": 1e-5}
    backward = _pointers("vision query dvision", dtype) | dict.fromkeys(
        ("gradient_ptr", "logsum_ptr", "delta_ptr", "partial_ptr"), "*fp32"
    )
    backward |= dict.fromkeys(("tokens", "blocks", "vision_batch", "vision_row"), "i32")
    shape = {"w": width, "i": inner, "q": queries, "n": tokens}
    plan: list[tuple] = [
        (pooling_query, "plugin", query, asking, 8, 2),
        (pool_forward, "plugin", _pointers("vision query", dtype) | partial, sweep, tile.warps, tile.stages),
        (pooling_finish, "plugin", finish | partial, finishing, 8, 2),
        (pool_backward, "torch", backward, sweep, tile.warps, tile.stages),
    ]
    return [
        Variant("text_pooling", kernel, kind, dtype, arguments, constants, warps, stages, shape)
        for kernel, kind, arguments, constants, warps, stages in plan
    ]


def attend_variants(dtype: str, head: int = 96, heads: int = 1) -> list[Variant]:
    """Return the flash-style attention and its two backwards."""
    tile = tiles.attend_tile(DTYPES[dtype], head, 4096)
    constants = {
        "HEADS": heads,
        "HEAD": head,
        "SCALE": head**-0.5,
        "ROWS": tile.rows,
        "KEYS": tile.block,
        "BLOCK_HEAD": power_of_two(head, 16),
        **_products(dtype),
    }
    counts = dict.fromkeys(("query_count", "key_count"), "i32")
    forward = _pointers("query key value y", dtype) | {"logsum_ptr": "*fp32"} | counts
    queries = forward | _pointers("gradient dquery", dtype)
    keys = forward | _pointers("gradient dkey dvalue", dtype)
    shape = {"d": head, "h": heads}
    return [
        Variant("gated_cross_attention", kernel, "torch", dtype, arguments, constants, tile.warps, tile.stages, shape)
        for kernel, arguments in (
            (attend_forward, forward),
            (attend_backward_queries, queries),
            (attend_backward_keys, keys),
        )
    ]


def plugin_variants(dtypes: tuple[str, ...] = ("fp16", "fp32")) -> list[Variant]:
    """Return every plugin variant: the adapters of CLIPSeg and LGA, dense and shallow, and LGA's fusion."""
    found = []
    for dtype in dtypes:
        for width, rank in ((768, 64), (512, 64), (768, 512), (512, 512), (512, 256)):
            found.append(bottleneck_variant(dtype, width, rank, tokens=485))
        found.append(bottleneck_variant(dtype, 768, 64, folded=True, tokens=485))
        found.append(bottleneck_variant(dtype, 768, 192, normed=True))
        for text_tokens in (4, 16):
            rank = power_of_two(text_tokens, 16)
            found.append(bottleneck_variant(dtype, 768, rank, normed=True, groups=1))
            found.append(adapter_variant(dtype, text_tokens))
        found.append(closed_variant(dtype))
        found += [v for v in pooling_variants(dtype) if v.variant == "plugin"]
    return found


def torch_variants(dtypes: tuple[str, ...] = ("fp16", "bf16", "fp32")) -> list[Variant]:
    """Return the variants of training and eager use."""
    found = []
    for dtype in dtypes:
        for width, rank, normed in ((768, 64, False), (768, 512, False), (512, 256, False), (768, 192, True)):
            found += bottleneck_torch(dtype, width, rank, normed)
        found += [v for v in pooling_variants(dtype) if v.variant == "torch"]
        found += attend_variants(dtype)
    return found
