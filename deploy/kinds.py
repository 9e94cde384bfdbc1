"""Kinds of nodes in an exported graph: the exporter writes them in front of a node's name, and profiles read them."""

import re

KINDS = ("adapters", "fusion", "attention", "mlp", "norms", "embeddings", "rest")
_KIND = re.compile(rf"(?:^|[ _])({'|'.join(KINDS)})/")


def named(kind: str, node: str) -> str:
    """Return the name of a node that says its kind."""
    return f"{kind}/{node}"


def kind_of(node: str) -> str:
    """Return the kind of a node by its name, whatever an engine put around it; `rest` where it says none."""
    found = _KIND.search(node)
    return found[1] if found else "rest"
