"""The papers' own tables of scores: which columns, data sets and seeds they have, and what stands in them.

They stand in the papers' files in `recipes/`, `[tables.NAME]`, beside the recipes that their columns were trained by. A
score stands there only where its source could be read; what could not is None, and is never guessed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..deploy.errors import UserError
from .recipe_files import PAPERS, RECIPES, read_toml

METRICS = ("dice", "iou", "hd95")
PERCENT = ("dice", "iou")
"""What papers print in percent; HD95 they print in pixels."""


@dataclass(frozen=True)
class Column:
    """One column of a table: the shipped recipe that trains it, and what is set on top."""

    name: str
    recipe: str
    set: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    """A table of a paper.

    Attributes:
        name: paper/table.
        about: what it compares.
        source: the paper, and where the scores were read.
        columns: what was trained.
        samples: for each data set the samples of each split, as far as the paper says.
        metrics: which of `METRICS` it prints.
        seeds: of the trainings; None: the recipe's own.
        search: trials of a search before the training that counts; 0: none.
        scores: by data set, column and metric; percent, HD95 in pixels.
    """

    name: str
    about: str
    source: str
    columns: tuple[Column, ...]
    samples: dict[str, dict[str, int]]
    metrics: tuple[str, ...] = METRICS
    seeds: tuple[int, ...] | None = None
    search: int = 0
    scores: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)

    def score(self, data: str, column: str, metric: str) -> float | None:
        """Return what the paper prints, or None where that is not known here."""
        return self.scores.get(data, {}).get(column, {}).get(metric)

    @property
    def known(self) -> int:
        """How many of its figures are known here."""
        return sum(
            self.score(d, c.name, m) is not None for d in self.samples for c in self.columns for m in self.metrics
        )

    @property
    def figures(self) -> int:
        """How many figures it has."""
        return len(self.samples) * len(self.columns) * len(self.metrics)


def tables() -> dict[str, Published]:
    """Return every table that is known, by name."""
    found = {}
    for paper in PAPERS:
        content = read_toml(RECIPES / f"{paper}.toml")
        for name, entry in content.get("tables", {}).items():
            found[f"{paper}/{name}"] = _table(paper, name, entry, content)
    return found


def table_of(name: str) -> Published:
    """Return the table called `name`; UserError names the known ones."""
    known = tables()
    if name not in known:
        raise UserError(f"no table {name!r}; known: {', '.join(known)}")
    return known[name]


def listing() -> list[dict[str, Any]]:
    """Return one row for each table: `{name, about, columns, data, seeds, search, known, figures, source}`."""
    return [
        {
            "name": one.name,
            "about": one.about,
            "columns": [column.name for column in one.columns],
            "data": list(one.samples),
            "seeds": list(one.seeds or ()),
            "search": one.search,
            "known": one.known,
            "figures": one.figures,
            "source": one.source,
        }
        for one in tables().values()
    ]


def _table(paper: str, name: str, entry: Mapping[str, Any], content: Mapping[str, Any]) -> Published:
    data, source = content.get("data", {}), content["source"]
    splits = read_toml(RECIPES / f"{entry['splits_of']}.toml")["data"] if "splits_of" in entry else data
    read_at = f"; scores read at {entry['read_at']}" if "read_at" in entry else ""
    return Published(
        name=f"{paper}/{name}",
        about=entry["about"],
        source=f"{source['paper']}, {entry['title']}{read_at}",
        columns=tuple(_column(paper, one, tuple(entry.get("set", ()))) for one in entry["columns"]),
        samples={one: splits.get(one, {}).get("samples", {}) for one in entry["data"]},
        metrics=tuple(entry.get("metrics", METRICS)),
        seeds=tuple(source["seeds"]) if "seeds" in source else None,
        search=entry.get("search", 0),
        scores={one: facts["scores"] for one, facts in data.items() if "scores" in facts},
    )


def _column(paper: str, entry: str | Mapping[str, Any], shared: tuple[str, ...]) -> Column:
    if isinstance(entry, str):
        return Column(entry, f"{paper}/{entry}", shared)
    return Column(entry["name"], f"{paper}/{entry['recipe']}", (*shared, *entry.get("set", ())))
