"""From an ONNX part to a TensorRT network: static shapes, strong types, and every parser error in one sentence."""

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..abilities import precisions_of
from ..errors import EngineError
from ..manifest import Manifest
from .library import has_plugins, newest_opset, version_of
from .log import first_error

LENGTH = 77
"""Tokens of every sentence in an engine; a shorter one is padded and masked."""

_PLUGIN, _HIDDEN = b"plugin_namespace", b"plugin_namespac_"
"""The attribute by which the parser finds a plugin; renamed, the node's function is taken instead."""


class Network(NamedTuple):
    """A network, and the parser that owns its weights and must live as long."""

    network: Any
    parser: Any


def dims_of(manifest: Manifest, part: str, batch: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every input of a part at one batch size, from the manifest's axes.

    Raises:
        EngineError: an axis with a name that no engine has a size for.
    """
    sizes = {"batch": batch, "length": LENGTH}
    axes = {name: manifest.axes[part][name] for name in manifest.flow[part]["inputs"]}
    if unknown := {dim for dims in axes.values() for dim in dims if isinstance(dim, str)} - sizes.keys():
        raise EngineError(
            f"the {part} part has a free axis {min(unknown)!r}, for which an engine has no size: export again"
        )
    return {name: tuple(sizes[dim] if isinstance(dim, str) else dim for dim in dims) for name, dims in axes.items()}


def check_opset(trt: Any, manifest: Manifest) -> None:
    """Refuse a bundle whose operators this TensorRT's parser does not have."""
    newest = newest_opset(version_of(trt))
    if manifest.opset > newest:
        raise EngineError(
            f"{manifest.name} has ONNX opset {manifest.opset}, TensorRT {trt.__version__} reads up to {newest}: "
            f"export it with opset 20, or update TensorRT"
        )


def check_precision(capability: int, manifest: Manifest) -> None:
    """Refuse a bundle in numbers that this GPU has no units for, before TensorRT says it of some layer."""
    has = precisions_of(capability)
    if lacks := [one for one in manifest.precision.split("-") if one not in has]:
        raise EngineError(
            f"{manifest.name} is in {manifest.precision}, and sm_{capability} has no {lacks[0]}: "
            f"export with --precision {'fp16' if 'fp16' in has else 'fp32'}{' or int8-fp16' if 'int8' in has else ''}"
        )


def parse(
    trt: Any, builder: Any, heard: Any, path: Path, dims: Mapping[str, tuple[int, ...]], plugins: bool
) -> Network:
    """Return the network of an ONNX file with every input at its static shape.

    Without `plugins` the operators of our domain are taken as their ONNX functions, whatever is registered.

    Raises:
        EngineError: the file cannot be parsed; the first error is told with its node.
    """
    network = builder.create_network(_flags(trt))
    parser = trt.OnnxParser(network, heard)
    if plugins or not mentions(path, _PLUGIN):
        parsed = parser.parse_from_file(str(path))
    else:
        parsed = parser.parse(path.read_bytes().replace(_PLUGIN, _HIDDEN), str(path))
    if not parsed:
        raise EngineError(f"TensorRT {trt.__version__} cannot read {path.name}: {_parser_error(parser, heard)}")
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        if tensor.name not in dims:
            raise EngineError(f"{path.name} has an input {tensor.name!r} that the manifest does not know: export again")
        tensor.shape = dims[tensor.name]
    _decompose_attention(trt, network)
    return Network(network, parser)


def mentions(path: Path, text: bytes) -> bool:
    """Does a file hold this text? Looked up where it lies: a Jetson has no memory for a second copy."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(text) >= 0


def _flags(trt: Any) -> int:
    kinds = trt.NetworkDefinitionCreationFlag
    flags = 1 << int(kinds.STRONGLY_TYPED)
    if has_plugins(version_of(trt)) and hasattr(kinds, "PREFER_AOT_PYTHON_PLUGINS"):
        flags |= 1 << int(kinds.PREFER_AOT_PYTHON_PLUGINS)
    return flags


def _decompose_attention(trt: Any, network: Any) -> None:
    """Let an Attention without a kernel of its own be taken apart; without this, float32 and small heads fail."""
    kind = getattr(trt.LayerType, "ATTENTION_INPUT", None)
    for i in range(network.num_layers) if kind is not None else ():
        layer = network.get_layer(i)
        if layer.type == kind:
            layer.__class__ = trt.IAttentionInputLayer
            layer.attention.decomposable = True


def _parser_error(parser: Any, heard: Any) -> str:
    if not parser.num_errors:
        return first_error(heard.lines)
    error = parser.get_error(0)
    where = f" (node {error.node_name() or '-'}, operator {error.node_operator() or '-'})"
    return error.desc().strip().rstrip(".") + where
