"""What each node of a graph is for, written into its name, so that a profile shows where an adapter's tax arises.

The exporter notes the modules around each node; of them one word is kept, and no path of the machine it was built on.
"""

import ast
import re

import onnx

from ..deploy.kinds import named

SCOPES = "pkg.torch.onnx.name_scopes"
# Searched in the path of the module that the operator is in; the first wins, so an adapter's linear is the adapter's.
_RULES = (
    ("adapters", re.compile(r"(^|\.)(graft|grafts|lora|\w*taps?)\b")),
    ("fusion", re.compile(r"(^|\.)(fusion|fusions)\b")),
    ("attention", re.compile(r"(^|\.)(self_attn|attn|attention|cross_attn\w*)\b")),
    ("mlp", re.compile(r"(^|\.)(mlp|fc1|fc2)\b")),
    ("norms", re.compile(r"(^|\.)\w*(norm|layrnorm)\d*\b")),
    ("embeddings", re.compile(r"(^|\.)(\w*embeddings?|patch_embed)\b")),
)


def name_nodes(model: onnx.ModelProto) -> None:
    """Put the kind of every node in front of its name, in functions too; before the exporter's notes are dropped."""
    for node in model.graph.node:
        notes = {note.key: note.value for note in node.metadata_props}
        kind = _operator(node.op_type) if node.domain else _kind(ast.literal_eval(notes.get(SCOPES, "[]")))
        node.name = named(kind, node.name)


def name_functions(model: onnx.ModelProto) -> None:
    """Name the nodes of the model's functions after what they are for; engines that inline them keep the names."""
    for function in model.functions:
        for i, node in enumerate(function.node):
            node.name = named(_operator(function.name), f"{function.name}_{i}")


def _operator(name: str) -> str:
    """Return the kind of an operator of ours, which is an adapter or a fusion of image and text."""
    return "adapters" if name.startswith("Bottleneck") else "fusion"


def _kind(scopes: list[str]) -> str:
    """Return the kind of a node by the modules around it, the last scope being the operator itself."""
    modules = scopes[:-1]
    innermost = modules[-1] if modules else ""
    return next((kind for kind, rule in _RULES if rule.search(innermost)), "rest")
