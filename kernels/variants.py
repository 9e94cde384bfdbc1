"""Kernel variants ready for an ahead-of-time compile: what stays an argument, what is a constant, which tile.

plugin  forward kernels that ride inside an engine: packed tensors, every stride a constant, one integer argument at
        most, no float and no scratch; held to 0 spills and 48 KiB of shared memory on every architecture.
torch   the forward and backward kernels as PyTorch launches them, with strides as arguments.

`sites.py` lists the shapes that the models use.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
import triton.language as tl

from . import attention_kernels, bottleneck_gradients, bottleneck_kernels, fusion_kernels, pooling_kernels, tiles
from .forms import adapter_layout, power_of_two

ARCHITECTURES = (80, 86, 87, 89, 90, 100, 110, 120)
TORCH_ARCHITECTURES = (80, 89, 90)
SHARED_LIMIT = 48 * 1024

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
LANGUAGE = {"fp32": tl.float32, "fp16": tl.float16, "bf16": tl.bfloat16}

KERNELS: dict[str, Any] = {
    "bottleneck_forward": bottleneck_kernels.bottleneck_forward,
    "bottleneck_backward_rows": bottleneck_gradients.bottleneck_backward_rows,
    "bottleneck_backward_columns": bottleneck_gradients.bottleneck_backward_columns,
    "closed_forward": fusion_kernels.closed_forward,
    "text_adapter": fusion_kernels.text_adapter,
    "pooling_query": pooling_kernels.pooling_query,
    "pool_forward": pooling_kernels.pool_forward,
    "pooling_finish": pooling_kernels.pooling_finish,
    "pool_backward": pooling_kernels.pool_backward,
    "attend_forward": attention_kernels.attend_forward,
    "attend_backward_queries": attention_kernels.attend_backward_queries,
    "attend_backward_keys": attention_kernels.attend_backward_keys,
}


@dataclass(frozen=True)
class Variant:
    """One compile: the kernel's name, the type of each pointer and integer that stays an argument, all constants."""

    operator: str
    kernel: str
    variant: Literal["plugin", "torch"]
    dtype: str
    arguments: dict[str, str]
    constants: dict[str, Any]
    warps: int
    stages: int
    shape: dict[str, int] = field(default_factory=dict)

    @property
    def function(self) -> Any:
        """The kernel itself."""
        return KERNELS[self.kernel]

    @property
    def name(self) -> str:
        """The file name of the variant: kernel, shape, dtype, and the kind of variant."""
        sizes = "_".join(f"{key}{value}" for key, value in self.shape.items())
        return f"{self.kernel}_{sizes}_{self.dtype}_{self.variant}"

    def signature(self) -> dict[str, str]:
        """Return every argument of the kernel with its type, "constexpr" for what is a constant or absent."""
        return {name: self.arguments.get(name, "constexpr") for name in self.function.arg_names}

    def bound(self) -> dict[str, Any]:
        """Return the constants; an argument that is neither an argument nor a constant is absent: None."""
        return {name: self.constants.get(name) for name in self.function.arg_names if name not in self.arguments}

    def work(self) -> tuple:
        """Return what decides the machine code: equal works need one compile."""
        return (self.kernel, *map(str, (self.signature(), self.bound(), self.warps, self.stages)))


def distinct(variants: list[Variant]) -> list[Variant]:
    """Return the variants without those that compile to the same machine code as an earlier one."""
    found: dict[tuple, Variant] = {}
    for variant in variants:
        found.setdefault(variant.work(), variant)
    return list(found.values())


def as_torch(plugin: Variant, *fp32: str) -> Variant:
    """Return a plugin as PyTorch launches it: counts and strides are arguments; `fp32` names outputs it writes too."""
    integers = [name for name in plugin.function.arg_names if name.islower() and not name.endswith("_ptr")]
    arguments = plugin.arguments | _pointers(" ".join(fp32), "fp32") | dict.fromkeys(integers, "i32")
    constants = {name: value for name, value in plugin.constants.items() if name not in integers}
    return replace(plugin, variant="torch", arguments=arguments, constants=constants)


def _pointers(names: str, dtype: str) -> dict[str, str]:
    """Return the pointer arguments of one dtype."""
    return {f"{name}_ptr": f"*{dtype}" for name in names.split()}


def _products(dtype: str) -> dict[str, Any]:
    """Return the constants of matrix products."""
    return {"COMPUTE": LANGUAGE[dtype], "PRECISION": "ieee"}


def _cut(tile: tiles.Tile) -> dict[str, int]:
    """Return a tile's rows and columns as constants."""
    return {"ROWS": tile.rows, "BLOCK": tile.block}


def _adapter(dtype: str, width: int, rank: int, normed: bool) -> dict[str, Any]:
    """Return the constants that the bottleneck's kernels share."""
    return {
        "WIDTH": width,
        "RANK": rank,
        "INNER": "relu",
        "OUTER": "identity" if normed else "relu",
        "GROUPS": 1,
        "EPS": 1e-5,
        "BLOCK_RANK": power_of_two(rank, 16),
        **_products(dtype),
    }


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
    names = (
        "x up up_bias y" + (" hidden" if folded else " down down_bias") + (" norm_weight norm_bias" if normed else "")
    )
    arguments = _pointers(names, dtype)
    arguments |= _pointers("down_bias up_bias", "fp32") if groups else {"tokens": "i32"}
    constants = {
        **_adapter(dtype, width, rank, normed),
        **_cut(tile),
        **dict.fromkeys(("x_batch", "y_batch"), tokens * width if groups else 0),
        **dict.fromkeys(("hidden_batch", "residual_batch"), 0),
        **dict.fromkeys(("x_row", "y_row", "residual_row"), width),
        "hidden_row": rank,
        "weight_batch": int(groups > 0),
        "scale_stride": 1,
        "COLUMNS": -(-width // (tile.shares * tile.block)) * tile.block,
    }
    constants |= {"tokens": tokens, "INNER": "softmax", "GROUPS": groups} if groups else {}
    shape = {"w": width, "r": rank, "norm": int(normed), "folded": int(folded), "groups": groups, "n": tokens}
    return Variant(
        "bottleneck", "bottleneck_forward", "plugin", dtype, arguments, constants, tile.warps, tile.stages, shape
    )


def bottleneck_backward(
    dtype: str, width: int, rank: int, *, normed: bool = False, folded: bool = False, tokens: int = 4096
) -> list[Variant]:
    """Return the two backward kernels of the bottleneck, over rows and over columns."""
    norm = " norm_weight norm_bias" if normed else ""
    rows = "x up up_bias gradient h dz" + (" hidden" if folded else " dx down down_bias") + norm
    columns = "x up up_bias gradient h dz" + ("" if folded else " down") + norm
    statistics = _pointers("statistics", "fp32") if normed else {}
    every = _adapter(dtype, width, rank, normed)
    found = []
    for kernel, names, more in (
        ("bottleneck_backward_rows", rows, {}),
        ("bottleneck_backward_columns", columns, _pointers("partial", "fp32")),
    ):
        tile = tiles.DEFAULTS[kernel](DTYPES[dtype], power_of_two(rank, 16), tokens)
        known = KERNELS[kernel].arg_names
        integers = [name for name in known if name.islower() and not name.endswith("_ptr")]
        arguments = _pointers(names, dtype) | statistics | more | dict.fromkeys(integers, "i32")
        constants = {name: value for name, value in (every | _cut(tile)).items() if name in known}
        shape = {"w": width, "r": rank, "norm": int(normed), "folded": int(folded), "n": tokens}
        found.append(
            Variant("bottleneck", kernel, "torch", dtype, arguments, constants, tile.warps, tile.stages, shape)
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
        "BLOCK_INNER": 16,
        "BLOCK_WIDTH": power_of_two(width),
        **_cut(tile),
    }
    shape = {"w": width, "i": inner, "n": tokens}
    arguments = _pointers(names, dtype)
    return Variant(
        "gated_cross_attention",
        "closed_forward",
        "plugin",
        dtype,
        arguments,
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
    arguments = _pointers(names, dtype) | _pointers("down_bias up_bias", "fp32")
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
    return Variant("gated_cross_attention", "text_adapter", "plugin", dtype, arguments, constants, 8, 2, shape)


def pooling_variants(
    dtype: str, width: int = 768, inner: int = 96, queries: int = 1, tokens: int = 4096
) -> list[Variant]:
    """Return the absorbed text pooling: its three forward kernels as plugins, and its backward."""
    tile = tiles.pool_tile(DTYPES[dtype], queries, tokens)
    text = {"text_batch": queries * width, "text_row": width, "TOKENS": queries, "HEADS": 1, "HEAD": inner}
    text |= {"WIDTH": width, "BLOCK_INNER": 8, "BLOCK_WIDTH": power_of_two(width)}
    blocks = -(-tokens // tile.rows)
    asking = text | {"SCALE": inner**-0.5, "EPS": 1e-5}
    finishing = text | {"blocks": blocks, "BLOCKS": power_of_two(blocks), "STEP": 4}
    sweep = {
        "tokens": tokens,
        "blocks": blocks,
        "vision_batch": tokens * width,
        "vision_row": width,
        "WIDTH": width,
        "QUERY_COUNT": queries,
        "EPS": 1e-5,
        "QUERIES": power_of_two(queries, 16),
        **_cut(tile),
        **_products(dtype),
    }
    query = _pointers("text norm_weight norm_bias query_weight query_bias key_weight vision_weight query", dtype)
    finish = _pointers("text vision_weight vision_bias value_weight value_bias out_weight out_bias y", dtype)
    partial = _pointers("partial softmax", "fp32")
    backward = _pointers("vision query dvision", dtype) | _pointers("gradient logsum delta partial", "fp32")
    shape = {"w": width, "i": inner, "q": queries}
    seen = shape | {"n": tokens}
    swept = (tile.warps, tile.stages)
    plan: list[tuple] = [
        ("pooling_query", query, asking, (8, 2), shape),
        ("pool_forward", _pointers("vision query", dtype) | partial, sweep, swept, seen),
        ("pooling_finish", finish | partial, finishing, (8, 2), seen),
        ("pool_backward", backward, sweep, swept, seen),
    ]
    *forward, back = [
        Variant("text_pooling", kernel, "plugin", dtype, arguments, constants, warps, stages, size)
        for kernel, arguments, constants, (warps, stages), size in plan
    ]
    return [*forward, as_torch(back)]


def attend_variants(dtype: str, head: int = 96, heads: int = 1, queries: int = 77, keys: int = 4096) -> list[Variant]:
    """Return the flash-style attention as a plugin of the plain text pooling, and its two backwards."""
    tile = tiles.attend_tile(DTYPES[dtype], power_of_two(head, 16), queries)
    constants = {
        "query_count": queries,
        "key_count": keys,
        "HEADS": heads,
        "HEAD": head,
        "SCALE": head**-0.5,
        "ROWS": tile.rows,
        "KEYS": tile.block,
        "BLOCK_HEAD": power_of_two(head, 16),
        **_products(dtype),
    }
    forward = _pointers("query key value y", dtype)
    backward = forward | _pointers("gradient", dtype) | _pointers("logsum", "fp32")
    shape = {"d": head, "h": heads, "q": queries, "n": keys}
    attend, *both = [
        Variant("text_pooling", kernel, "plugin", dtype, arguments, constants, tile.warps, tile.stages, shape)
        for kernel, arguments in (
            ("attend_forward", forward),
            ("attend_backward_queries", backward | _pointers("dquery", dtype)),
            ("attend_backward_keys", backward | _pointers("dkey dvalue", dtype)),
        )
    ]
    return [attend, *map(as_torch, both)]
