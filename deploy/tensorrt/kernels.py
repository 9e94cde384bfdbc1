"""The kernels that a bundle brings for its operators: `ptx/kernels.json`, read, checked and matched to a node."""

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BundleError, UserError
from ..files import inside, read_json
from ..manifest import Manifest

INDEX = "ptx/kernels.json"
Shape = Sequence[int | None]


@dataclass(frozen=True, eq=False)
class Kernel:
    """One kernel for one architecture.

    Attributes:
        node: operator type of the nodes that it computes.
        tactic: its number among those that do the same work in other tiles, from 1.
        dtype: `fp32` or `fp16`, of all inputs and outputs.
        sizes: shape that inputs of these names must have; None is free.
        inputs: names of the inputs, in their order.
        integers: names of the integer arguments behind them.
        outputs: for each output, the input that it is like.
        symbols: what grid and integers are made from: a number, or an input's name and an axis of it.
        constants: numbers that are compiled in.
        grid: three expressions.
        block_x: threads of a block.
        shared_bytes: of a block.
        entry: name of the function.
        ptx: its text.
    """

    node: str
    tactic: int
    dtype: str
    sizes: dict[str, Shape]
    inputs: tuple[str, ...]
    integers: tuple[str, ...]
    outputs: tuple[str, ...]
    symbols: dict[str, Any]
    constants: dict[str, Any]
    grid: tuple[str, str, str]
    block_x: int
    shared_bytes: int
    entry: str
    ptx: str

    def fits(self, shapes: Mapping[str, Shape]) -> bool:
        """Is it made for inputs of these shapes? A size that is not known yet (None) fits any."""
        return all(_alike(wanted, shapes[name]) for name, wanted in self.sizes.items())


def read_kernels(folder: Path, manifest: Manifest, capability: int) -> list[Kernel]:
    """Return the kernels that a bundle brings for a compute capability such as 87; none where it brings none.

    Raises:
        BundleError: the list is damaged, or names a file that the manifest does not have.
    """
    if INDEX not in manifest.files:
        return []
    try:
        rows = [row for row in read_json(folder / INDEX) if row["arch"] == capability]
        return [_read(folder, manifest, row) for row in rows]
    except (UserError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise BundleError(f"{folder / INDEX} is damaged ({error}): export the bundle again") from error


def _read(folder: Path, manifest: Manifest, row: dict[str, Any]) -> Kernel:
    if row["ptx"] not in manifest.files or inside(folder, row["ptx"]) is None:
        raise ValueError(f"{row['ptx']} is not in the manifest")
    names = [one["name"].removesuffix("_ptr") for one in row["arguments"]]
    outputs, integers = len(row["outputs"]), tuple(one["name"] for one in row["arguments"] if one["type"] == "i32")
    inputs = tuple(names[: len(names) - outputs - len(integers)])
    if tuple(names[len(inputs) : len(names) - outputs]) != integers:
        raise ValueError(f"{row['node']} does not take inputs, integers, outputs")
    return Kernel(
        node=row["node"],
        tactic=row["tactic"],
        dtype=row["dtype"],
        sizes=row["sizes"],
        inputs=inputs,
        integers=integers,
        outputs=tuple(row["outputs"]),
        symbols=row["symbols"],
        constants=row["constants"],
        grid=tuple(row["grid"]),  # type: ignore[arg-type]  # three, as written
        block_x=row["block_x"],
        shared_bytes=row["shared_bytes"],
        entry=row["entry"],
        ptx=(folder / row["ptx"]).read_text(),
    )


def _alike(wanted: Shape, found: Shape) -> bool:
    return len(wanted) == len(found) and all(
        want is None or have is None or want == have for want, have in zip(wanted, found, strict=True)
    )


def evaluate(text: str, values: Mapping[str, Any], cdiv: Callable[[Any, Any], Any]) -> Any:
    """Return an expression of numbers, names, `*` and `cdiv(a, b)`, as the grid is written in.

    The names may stand for TensorRT's symbolic sizes, which multiply from the left only: a number goes last.

    Raises:
        ValueError: anything else is in it.
    """
    return _value(ast.parse(text, mode="eval").body, values, cdiv)


def _value(node: ast.expr, values: Mapping[str, Any], cdiv: Callable[[Any, Any], Any]) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.Name) and node.id in values:
        return values[node.id]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return _times(_value(node.left, values, cdiv), _value(node.right, values, cdiv))
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "cdiv"
        and len(node.args) == 2
    ):
        return cdiv(*(_value(one, values, cdiv) for one in node.args))
    raise ValueError(f"{ast.unparse(node)!r} is no part of a grid")


def _times(a: Any, b: Any) -> Any:
    return operator.mul(b, a) if isinstance(a, int) else operator.mul(a, b)
