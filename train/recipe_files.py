"""Recipes as TOML: one file for each paper, `recipes/PAPER.toml`, with an entry for each setup; and files of users."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ..deploy.errors import UserError

try:
    import tomllib  # pyright: ignore[reportMissingImports]
except ModuleNotFoundError:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

RECIPES = Path(__file__).parent / "recipes"
PAPERS = ("vlsm-adapter", "tunevlseg", "lga", "vlseg", "plus")
"""The shipped files; where several have a recipe for a method, the first is its preset."""
SMALL = RECIPES / "small.toml"
ASIDE = ("base", "search", "searched", "source", "column")


@dataclass(frozen=True)
class RecipeFile:
    """What a recipe says: fields of a run, the spaces a search draws some of them from, and where it is published."""

    fields: dict[str, Any]
    search: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)


def shipped() -> list[str]:
    """Return the names of the recipes that come with the package, such as vlsm-adapter/dense-vl."""
    return [f"{paper}/{name}" for paper in PAPERS for name in _shelf(paper)["recipes"]]


def read_recipe(recipe: str | Path) -> RecipeFile:
    """Return a shipped recipe, by its name or by the last part of it where only one has that, or that of a TOML file.

    A file's key `base` names a shipped recipe that it starts from; its table `[search]` then replaces that of the base.
    UserError for an unknown name or a file that is not TOML.
    """
    matches = [name for name in shipped() if str(recipe) == name or name.endswith(f"/{recipe}")]
    if len(matches) == 1:
        return _shipped(*matches[0].split("/"))
    if matches:
        raise UserError(f"several recipes are called {recipe}: name one of {', '.join(matches)}")
    path = Path(recipe)
    if not path.is_file():
        raise UserError(f"no recipe {recipe}: expected a TOML file or one of {', '.join(shipped())}")
    content = read_toml(path)
    return _layered(path, content, content.get("search"))


def read_preset(method: str, small: bool) -> RecipeFile:
    """Return the first shipped recipe for a method, without its size, or an empty one; small.toml on top if `small`."""
    names = (name for name in shipped() if _shipped(*name.split("/")).fields["method"] == method)
    name = next(names, None)
    found = RecipeFile({}) if name is None else _shipped(*name.split("/"))
    values = {key: value for key, value in found.fields.items() if key not in ("method", "size")}
    changes = _fields(read_toml(SMALL)) if small else {}
    return RecipeFile(values | changes, found.search, found.source)


def listing() -> list[dict[str, Any]]:
    """Return one row for each shipped recipe: `{name, method, size, paper, table, column, searched, scores, note}`.

    `scores` are those published there, in percent, by data set as `vlseg data convert` calls it; few could be verified.
    """
    rows = []
    for name in shipped():
        paper, entry = name.split("/")
        found, data = _shipped(paper, entry), _shelf(paper).get("data", {})
        row = {"name": name, "method": found.fields["method"], "size": found.fields.get("size", "tiny")}
        row |= {key: found.source.get(key, "") for key in ("paper", "table", "column")}
        scores = {folder: facts["scores"][entry] for folder, facts in data.items() if entry in facts.get("scores", {})}
        rows.append(row | {"searched": list(found.search), "scores": scores, "note": found.source.get("note", "")})
    return rows


def _shipped(paper: str, name: str) -> RecipeFile:
    content = _shelf(paper)
    entry, common = content["recipes"][name], content.get("common", {})
    found = _layered(Path(paper), common | entry, None)
    search = content.get("search", {}) | entry.get("search", {}) if entry.get("searched", True) else {}
    source = content.get("source", {}) | {key: entry[key] for key in ("column",) if key in entry}
    return RecipeFile(found.fields, search, source)


def _layered(path: Path, content: Mapping[str, Any], search: dict[str, Any] | None) -> RecipeFile:
    base = content.get("base")
    if base is None:
        return RecipeFile(_fields(content), search or {}, dict(content.get("source", {})))
    if not isinstance(base, str) or not any(base == name or name.endswith(f"/{base}") for name in shipped()):
        raise UserError(f"{path} has base = {base!r}: expected one of {', '.join(shipped())}")
    below = read_recipe(base)
    return RecipeFile(below.fields | _fields(content), below.search if search is None else search, below.source)


def _fields(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in ASIDE}


@cache
def _shelf(paper: str) -> dict[str, Any]:
    return read_toml(RECIPES / f"{paper}.toml")


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file says; UserError where it cannot be read or is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: expected a TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not TOML ({error}): expected lines such as lr = 1e-3") from error
