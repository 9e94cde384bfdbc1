"""Write the tables of README.md and docs/*.md from the rows in docs/measured; `--check` only compares.

A table stands between `<!-- table NAME -->` and `<!-- end -->`; nobody edits it by hand.
"""

import csv
import re
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean

DOCS = Path(__file__).parent
MEASURED = DOCS / "measured"
BLOCK = re.compile(r"(<!-- table (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
Row = dict[str, str]


def rows(name: str) -> list[Row]:
    """Return the rows of docs/measured/NAME.csv, oldest first."""
    with open(MEASURED / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def table(header: list[str], lines: list[list[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, ["---"] * len(header), *lines])


def accuracy() -> str:
    """Dice at p1 of every contender on every data set, the mean over seeds."""
    found = [row for row in rows("accuracy") if row["prompt"] == "p1"]
    sets = list(dict.fromkeys(row["data"] for row in found))
    methods = list(dict.fromkeys(row["method"] for row in found))
    return table(["method", *sets], [[method, *(_dice(found, method, data) for data in sets)] for method in methods])


def _dice(found: list[Row], method: str, data: str) -> str:
    # the newest row of each seed counts
    by_seed = {row["seed"]: float(row["dice"]) for row in found if (row["method"], row["data"]) == (method, data)}
    if not by_seed:
        return "-"
    return f"{mean(by_seed.values()):.3f}" + (f" ({len(by_seed)} seeds)" if len(by_seed) > 1 else "")


BASE = {  # figure: what it is, and the goal
    "seen": ("mean Dice, word combinations seen in training", "0.88"),
    "unseen": ("mean Dice, combinations with a held-out pair of words", "0.85"),
    "right_object": ("right object when one word changes (per sentence)", "0.95"),
    "both_right": ("right object for both sentences of a pair", ""),
    "absent_empty": ("absent object: less than 1 % of the area", "0.90"),
    "colour_word": ("mean Dice, colour word alone", ""),
    "place_word": ("mean Dice, place word alone", ""),
    "size_word": ("mean Dice, size word alone", ""),
    "shape_word": ("mean Dice, shape word alone", ""),
}


def base() -> str:
    """What the shipped weights of the embedded base reach: the newest row of each figure."""
    newest = {row["figure"]: row for row in rows("base")}
    lines = [[what, f"{float(newest[figure]['value']):.3f}", goal] for figure, (what, goal) in BASE.items()]
    return table(["figure", "reached", "goal"], lines)


def latency() -> str:
    """Ratios of interleaved pairs, wall clock: the newest row of each measurement."""
    newest = {row["measurement"]: row for row in rows("export") if row["clock"] == "wall"}
    lines = [
        [what, f"{float(row['ratio']):.3f}", f"{float(row['low']):.3f} to {float(row['high']):.3f}", row["goal"]]
        for what, row in newest.items()
    ]
    return table(["ratio", "median", "95 % interval", "goal, at most"], lines)


TABLES: dict[str, Callable[[], str]] = {"accuracy": accuracy, "base": base, "latency": latency}


def render(text: str) -> str:
    """Return a page with every table made anew."""
    return BLOCK.sub(lambda match: match[1] + TABLES[match[2]]() + "\n" + match[3], text)


def pages() -> list[Path]:
    """Return the pages that may hold tables."""
    return [DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))]


def main() -> int:
    """Rewrite the pages; with --check, only say which are stale."""
    stale = [page for page in pages() if render(page.read_text()) != page.read_text()]
    for page in stale:
        print(f"{page}: tables are not those of the rows")
        if "--check" not in sys.argv:
            page.write_text(render(page.read_text()))
    return len(stale) if "--check" in sys.argv else 0


if __name__ == "__main__":
    raise SystemExit(main())
