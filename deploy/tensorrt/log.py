"""What TensorRT says while it builds: kept, and the first real error of it told in one sentence with its node."""

import re
from typing import Any

KEPT = 400
_MEMORY = re.compile(
    r"out ?of ?memory|outofmemory|insufficient memory|requested amount of gpu memory|failed to allocate|"
    r"cannot allocate memory|memory ?limit",
    re.IGNORECASE,
)
# what follows from an error rather than being one
_CONSEQUENCES = ("engine could not be created", "build engine failed", "network must have at least one output")
_WRAPPED = re.compile(r"(?:^|: |\] )?Error Code:? \d+:? *(?:[\w ]*\((.*)\)|(.*))\s*$", re.DOTALL)
_PLACE = re.compile(r"^\s*(?:\[[^\]]*\]\s*)+")
_NODE = re.compile(r"\b[Nn]ode:? ?(?:named |name:? )?[\"'`]?(\{ForeignNode\[[^\]]*\]\}|[^\s\"'`,;()]+)")


def ear(trt: Any) -> Any:
    """Return a logger that keeps what it hears, the only way in which the builder says what went wrong.

    `lines` holds the last warnings and errors as (is it an error, text).
    """

    class Ear(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[tuple[bool, str]] = []

        def log(self, severity: Any, message: str) -> None:
            kinds = trt.ILogger.Severity
            if severity in (kinds.INTERNAL_ERROR, kinds.ERROR, kinds.WARNING):
                self.lines.append((severity != kinds.WARNING, re.sub(r"\s+", " ", message).strip()))
                del self.lines[:-KEPT]

    return Ear()


def first_error(lines: list[tuple[bool, str]]) -> str:
    """Return the first error that is no consequence of another, without TensorRT's file names and codes.

    Where it names no node and another line does, that node is added.
    """
    errors = [text for wrong, text in lines if wrong]
    real = [text for text in errors if not any(one in text.lower() for one in _CONSEQUENCES)]
    first = plain((real or errors or ["TensorRT gave no reason"])[0])
    nodes = [node for text in errors if (node := node_of(text))]
    return first if node_of(first) or not nodes else f"{first} (node {nodes[0]})"


def ran_out(lines: list[tuple[bool, str]]) -> bool:
    """Did an error, or a warning that a tactic was skipped for it, speak of memory?"""
    return any(wrong and _MEMORY.search(text) for wrong, text in lines)


def node_of(text: str) -> str | None:
    """Return the node that a message names, or None."""
    found = _NODE.search(text)
    return found[1].rstrip(".:") if found else None


def plain(text: str) -> str:
    """Return a message without the source file and the error code that TensorRT puts around it."""
    text = _PLACE.sub("", text)
    found = _WRAPPED.search(text)
    return ((found[1] or found[2]) if found else text).strip().rstrip(".")
