"""A module as an ONNX graph that every engine reads: dynamic where it says so, clean of the machine it came from."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import onnx
import torch
from torch import Tensor, nn

from ..kernels import ops
from .functions import add_functions
from .naming import name_functions, name_nodes
from .policy import check

OPSET = 20
OPSETS = (18, 20)
"""Of ONNX, that a part can be exported in: 18 is for parsers that do not read 20."""
LIMITS = {"batch": (1, 1024), "length": (2, 77)}
"""The named axes and the sizes they may take; the shortest sentence is its begin and its end."""


@dataclass(frozen=True)
class Source:
    """A module, and how its inputs and outputs are called.

    Attributes:
        module: what is exported; frozen, in evaluation mode.
        inputs: an example of each input by its name; every named axis at least 2 long there.
        axes: for each input and output, the names of its dynamic axes by position.
        outputs: the outputs' names, in their order.
    """

    module: nn.Module
    inputs: dict[str, Tensor]
    axes: dict[str, dict[int, str]]
    outputs: tuple[str, ...]


class _Given(nn.Module):
    """A module under one signature, whatever its own, so that axes can be named by position."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *given: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.module(*given)


def to_onnx(source: Source, opset: int = OPSET) -> onnx.ModelProto:
    """Return the graph of a module: every named axis dynamic, no trace of where it was built.

    Each operator of `kernels` is one node in domain `vlseg`, with the function that says what it means beside it.

    Raises:
        UserError: an axis lost its name on the way, or the graph has an operator that some engine cannot run.
    """
    names = sorted({name for axes in source.axes.values() for name in axes.values()})
    dims = {name: torch.export.Dim(name, min=LIMITS[name][0], max=LIMITS[name][1]) for name in names}
    shapes = tuple({axis: dims[name] for axis, name in source.axes[key].items()} for key in source.inputs)
    with torch.no_grad(), _quiet(), ops.preferring("node"):
        # an axis that the module specialises is an error here; torch.onnx.export alone would give it up silently
        program = torch.export.export(
            _Given(source.module), tuple(source.inputs.values()), dynamic_shapes=(shapes,), strict=False
        )
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=opset,
            input_names=list(source.inputs),
            output_names=list(source.outputs),
            verbose=False,
        )
    assert exported is not None
    model = exported.model_proto
    _name_axes(model, source)
    name_nodes(model)
    _clean(model)
    add_functions(model)
    name_functions(model)
    check(model, source.axes)
    return model


def axes_of(model: onnx.ModelProto) -> dict[str, list[int | str]]:
    """Return the dims of every input and output: a number, or the name of a dynamic axis."""
    return {value.name: [dim.dim_param or dim.dim_value for dim in _dims(value)] for value in _ends(model)}


def _ends(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    return [*model.graph.input, *model.graph.output]


def _dims(value: onnx.ValueInfoProto) -> list:
    return list(value.type.tensor_type.shape.dim)


def _name_axes(model: onnx.ModelProto, source: Source) -> None:
    """Give the exporter's symbols (s6, s27) the names of the axes they stand for; each symbol has one name."""
    given: dict[str, str] = {}
    for value in model.graph.input:
        for axis, name in source.axes.get(value.name, {}).items():
            if symbol := _dims(value)[axis].dim_param:
                given[symbol] = name
    for value in _ends(model):
        for dim in _dims(value):
            if dim.dim_param in given:
                dim.dim_param = given[dim.dim_param]


def _clean(model: onnx.ModelProto) -> None:
    """Drop what is not needed to run: the exporter writes stack traces, with the builder's paths, beside every node."""
    graph = model.graph
    # intermediate shapes carry the exporter's symbols; every engine infers them anew
    graph.ClearField("value_info")
    for owner in (model, graph, *graph.node, *graph.initializer, *_ends(model)):
        owner.ClearField("metadata_props")
        owner.ClearField("doc_string")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes on its own libraries from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
