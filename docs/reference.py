"""Write docs/reference/*.md from the code: methods, options, manifest, commands; `--check` only compares."""

import ast
import dataclasses
import inspect
import itertools
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer

from vlseg.cli.door import app
from vlseg.deploy import manifest
from vlseg.train import recipe
from vlseg.train.models.methods import METHODS, backbone_of, count

FOLDER = Path(__file__).parent / "reference"
MADE = "<!-- made by `python docs/reference.py` from the code; not edited by hand -->\n"


def table(header: list[str], lines: list[list[str]]) -> str:
    """Return a Markdown table."""
    cells = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in cells)


def methods() -> str:
    """Every method: what trains at each size, and its options."""
    counts = [count(name, size) for name in METHODS for size in backbone_of(name).public]
    lines = [
        [f"`{one['name']}`", one["size"], f"{one['trainable']:,}", f"{one['total']:,}", str(one["image_size"]),
         ", ".join(one["cached"]) or "-", one["paper"]]
        for one in counts
    ]  # fmt: skip
    header = ["method", "size", "trained", "of all", "pixels", "computed once", "source"]
    text = ["# Methods", "", "`vlseg train METHOD`; options are set by `--set options.NAME=VALUE`.", ""]
    text += [table(header, lines), "", "## Options", ""]
    for kind in dict.fromkeys(one.options for one in METHODS.values()):
        if dataclasses.fields(kind):
            names = ", ".join(f"`{name}`" for name, one in METHODS.items() if one.options is kind)
            text += [f"### {names}", "", options_of(kind), ""]
    return "\n".join(text)


def options_of(kind: type) -> str:
    """Return the table of an options class: what its fields are, and the text under each."""
    told, hints = field_texts(kind), get_type_hints(kind)
    lines = [
        [f"`{f.name}`", words(hints[f.name]), f"`{value(f.default)}`", told.get(f.name, "")]
        for f in dataclasses.fields(kind)
    ]
    return table(["option", "values", "default", "meaning"], lines)


def field_texts(kind: type) -> dict[str, str]:
    """Return the string that stands under each field of a class and of those it is made from."""
    texts: dict[str, str] = {}
    for one in reversed(kind.__mro__[:-1]):
        body = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0].body  # type: ignore[attr-defined]
        for a, b in itertools.pairwise(body):
            if isinstance(a, ast.AnnAssign) and isinstance(a.target, ast.Name) and isinstance(b, ast.Expr):
                texts[a.target.id] = line(ast.literal_eval(b.value))
    return texts


def options() -> str:
    """Every field of a recipe: values, default, range."""
    told, hints = attributes(recipe.Recipe), get_type_hints(recipe.Recipe)
    lines = []
    for f in dataclasses.fields(recipe.Recipe):
        default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        low = recipe.LOWEST.get(f.name)
        lines.append([f"`{f.name}`", words(hints[f.name]), f"`{value(default)}`", "" if low is None else f">= {low}"])
        lines[-1].append(told[f.name])
    head = (
        "Lines of a recipe's TOML file, or `--set KEY=VALUE`. Values that no run can have are refused with a sentence."
    )
    return "\n".join(
        ["# Recipe", "", head, "", table(["field", "values", "default", "range", "meaning"], lines), "",
         "`lr` is above 0, `plateau_factor` between 0 and 1. `options` are the method's: [methods.md](methods.md).",
         ""]
    )  # fmt: skip


def schema() -> str:
    """Every field of a bundle's manifest, and what a reader demands of it."""
    told = attributes(manifest.Manifest)
    since = {name: old + 1 for old, added in sorted(manifest._ADDED.items()) for name in added}
    lines = [
        [f"`{f.name}`", manifest._RULES[f.name][1] if f.name in manifest._RULES else "a whole number",
         str(since.get(f.name, 1)), told[f.name]]
        for f in dataclasses.fields(manifest.Manifest)
    ]  # fmt: skip
    head = (
        f"`manifest.json` of a bundle, schema {manifest.SCHEMA_VERSION}. All fields must be there, and no others; "
        "files must have the hashes that are listed. Bundles of older schemas open too."
    )
    return "\n".join(["# Manifest", "", head, "", table(["field", "expected", "since", "meaning"], lines), ""])


def commands() -> str:
    """Every command: its help, arguments and options."""
    text = ["# Commands", "", "`vlseg COMMAND --help` says the same.", ""]
    for name, command in walk(typer.main.get_command(app)):
        about, _, example = inspect.cleandoc(command.help or "").partition("Example: ")
        text += [
            f"## vlseg {name}",
            "",
            about.strip(),
            "",
            "```text",
            example.strip(),
            "```",
            "",
            parameters(command),
            "",
        ]
    return "\n".join(text)


def walk(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every command of a group, and of the groups in it, with its name."""
    for name, command in group.commands.items():
        yield from walk(command, f"{before}{name} ") if hasattr(command, "commands") else [(before + name, command)]


def parameters(command: Any) -> str:
    """Return the table of a command's arguments and options."""
    lines = []
    for one in command.params:
        if one.param_type_name == "argument":
            name = (one.name or "").upper() + ("..." if one.nargs == -1 else "")
        else:
            name = ", ".join((*one.opts, *one.secondary_opts))
        flag = getattr(one, "is_flag", False)
        lines.append([f"`{name}`", default_of(one, flag), line(getattr(one, "help", None) or "")])
    return table(["parameter", "default", "meaning"], lines) if lines else "No parameters."


def default_of(one: Any, flag: bool) -> str:
    """Return a parameter's default as the table shows it."""
    if one.required:
        return "required"
    if flag and one.secondary_opts:
        return "on" if one.default else "off"
    if flag or not one.default or isinstance(one.default, list | tuple):
        return "-"
    return f"`{one.default}`"


def attributes(kind: type) -> dict[str, str]:
    """Return what a class's docstring says under Attributes, by name."""
    _, _, listed = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")
    entries = re.split(r"\n(?=    \w+: )", "\n" + listed)[1:]
    return {name.strip(): line(text) for name, _, text in (entry.partition(":") for entry in entries)}


def words(hint: Any) -> str:
    """Return the values that a type takes, in words."""
    plain = {int: "whole number", float: "number", bool: "true or false", str: "text", type(None): "none"}
    if hint in plain:
        return plain[hint]
    inner = get_args(hint)
    if inner and all(isinstance(one, str) for one in inner):
        return " or ".join(inner)
    return "table" if getattr(hint, "__origin__", None) is dict else " or ".join(words(one) for one in inner)


def value(default: Any) -> str:
    """Return a default as a TOML file or `--set` has it."""
    return "none" if default is None else str(default).lower() if isinstance(default, bool) else str(default)


def line(text: str) -> str:
    """Return a text on one line, a full stop at its end."""
    flat = " ".join(text.split())
    return flat if not flat or flat.endswith((".", "!", "?")) else f"{flat}."


PAGES: dict[str, Callable[[], str]] = {
    "methods": methods,
    "options": options,
    "manifest": schema,
    "cli": commands,
}


def page(name: str) -> str:
    """Return a page as it should be."""
    return f"{MADE}\n{PAGES[name]().rstrip()}\n"


def main() -> int:
    """Rewrite the pages; with --check, only say which are stale."""
    FOLDER.mkdir(exist_ok=True)
    paths = {name: FOLDER / f"{name}.md" for name in PAGES}
    stale = [name for name, path in paths.items() if not path.exists() or path.read_text() != page(name)]
    for name in stale:
        print(f"{paths[name]}: not what the code says")
        if "--check" not in sys.argv:
            paths[name].write_text(page(name))
    return len(stale) if "--check" in sys.argv else 0


if __name__ == "__main__":
    raise SystemExit(main())
