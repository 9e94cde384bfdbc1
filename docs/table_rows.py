"""What every table and figure of the documentation is made from: the rows in docs/measured."""

import csv
from pathlib import Path
from statistics import mean

MEASURED = Path(__file__).parent / "measured"
Row = dict[str, str]


def rows(name: str) -> list[Row]:
    """Return the rows of docs/measured/NAME.csv, oldest first; of a file that is not there, none."""
    path = MEASURED / f"{name}.csv"
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def table(header: list[str], lines: list[list[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, ["---"] * len(header), *lines])


def spread(values: list[float]) -> tuple[float, float, float]:
    """Return the mean, the smallest and the largest."""
    return mean(values), min(values), max(values)


def ranged(values: list[float], digits: int = 3) -> str:
    """Return the mean, and the range where there are several; of none, a dash."""
    if not values:
        return "-"
    middle, low, high = spread(values)
    return f"{middle:.{digits}f}" + (f" ({low:.{digits}f} to {high:.{digits}f})" if len(values) > 1 else "")


def interval(row: Row | None, key: str = "ratio") -> str:
    """Return a figure with its 95 % interval; of no row, or none of that figure, a dash."""
    if not row or not row[key]:
        return "-"
    return "{:.3f} ({:.3f} to {:.3f})".format(*(float(row[name]) for name in (key, "low", "high")))
