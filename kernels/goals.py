"""Rows of a benchmark as tables: every row, and what the fused operators reach against their goals."""

from typing import Any, NamedTuple

Row = dict[str, Any]

COLUMNS = "op form impl pass launch batch tokens text_tokens rank ms_p50 ratio_p50 share_of_copy share_of_matmul note"
CASE = ("op", "batch", "tokens", "text_tokens", "rank", "pass", "launch")
SHARE_GOALS = {"memory": ("share_of_copy", 0.8), "compute": ("share_of_matmul", 0.6)}


class Goal(NamedTuple):
    """Least speed-up of the fused operator over another implementation."""

    other: str
    least: float


def goals(row: Row) -> list[Goal]:
    """Return the goals of a fused row: the bottleneck's by pass, a cross-attention's forward by launch."""
    if row["op"] == "bottleneck":
        return [Goal("eager", 3.0 if row["pass"] == "forward" else 2.0), Goal("compile", 1.2)]
    if row["pass"] != "forward":
        return []
    return [Goal("eager", 3.0 if row["launch"] == "graph" else 5.0)]


def table(rows: list[Row]) -> str:
    """Return the rows as a short table."""
    names = COLUMNS.split()
    return "\n".join(["  ".join(names), *("  ".join(str(row.get(name, "")) for name in names) for row in rows)])


def verdicts(rows: list[Row]) -> str:
    """Return a line for each fused row of a GPU: its speed-ups, the share of what binds it, and the goals."""
    timed = {(row["impl"], *_case(row)): row for row in rows if row.get("launch") in ("plain", "graph")}
    lines = [_verdict(row, timed) for key, row in timed.items() if key[0] == "fused"]
    return "\n".join(lines) if lines else "no GPU was timed: no goal is judged"


def _case(row: Row) -> tuple[str, ...]:
    return tuple(str(row.get(name, "")) for name in CASE)


def _verdict(row: Row, timed: dict[tuple[str, ...], Row]) -> str:
    """Return one fused row's verdicts."""
    words = []
    for goal in goals(row):
        other = timed.get((goal.other, *_case(row)))
        if other is None:
            words.append(f"{goal.other} not measured")
            continue
        ratio = other["ms_p50"] / row["ms_p50"]
        words.append(f"{ratio:.2f}x {goal.other} (goal {goal.least}, {_word(ratio >= goal.least)})")
    column, least = SHARE_GOALS[row["bound"]]
    words.append(f"{row[column]:.0%} of {row['bound']} (goal {least:.0%}, {_word(row[column] >= least)})")
    return f"{' '.join(filter(None, _case(row)))}: {', '.join(words)}"


def _word(met: bool) -> str:
    return "met" if met else "missed"
