"""Draw the figures of docs/evidence.md from the rows in docs/measured: `python docs/plots.py`."""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))
from table_evidence import SETS, curves, evidence_rows, short  # noqa: E402 - scripts beside this one
from table_questions import by_images  # noqa: E402
from table_rows import Row, spread  # noqa: E402

# with a salt of its own, a figure of the same rows is the same file
plt.rcParams |= {"svg.hashsalt": "vlseg", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
COLOURS = {"rule": "0.6", "image": "tab:orange", "clipseg": "tab:blue", "other": "tab:green"}


def main() -> None:
    """Write every figure for which there are rows."""
    rows = evidence_rows()
    if rows:
        by_method(rows, DOCS / "evidence-dice.svg")
        learning(rows, DOCS / "evidence-curves.svg")
        by_size(rows, DOCS / "evidence-size.svg")
    if few := by_images():
        label_efficiency(few, DOCS / "evidence-few.svg")


def by_method(rows: list[Row], path: Path) -> None:
    """Dice of each method, a panel for each data set: a bar for the mean, a line for the spread over seeds.

    What ran on one set alone stands in the table.
    """
    sets = [name for name in SETS if any(row["data"] == name for row in rows)]
    data_of = {row["method"]: {one["data"] for one in rows if one["method"] == row["method"]} for row in rows}
    methods = [method for method, data in data_of.items() if len(data) > 1 or len(sets) == 1][::-1]
    size = (2.3 * len(sets) + 1.5, 0.24 * len(methods) + 0.9)
    figure, axes = plt.subplots(1, len(sets), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axis, name in zip(axes[0], sets, strict=True):
        for place, method in enumerate(methods):
            if values := [float(r["dice"]) for r in rows if (r["data"], r["method"]) == (name, method)]:
                mean, low, high = spread(values)
                axis.barh(place, mean, color=COLOURS[_kind(method)], height=0.7)
                axis.plot([low, high], [place, place], color="black", linewidth=1)
        axis.set(title=name, xlim=(0, 1), xlabel="Dice")
        axis.set_yticks(range(len(methods)), [short(method) for method in methods])
    _save(figure, path)


def learning(rows: list[Row], path: Path) -> None:
    """Validation Dice over the computed minutes of training, a panel for each data set; methods that all sets have."""
    seen = curves()
    drawn = [row for row in rows if row["seed"] == "41" and row["cell"] in seen]
    sets = [name for name in SETS if any(row["data"] == name for row in drawn)]
    methods = _of_all(drawn, sets)
    if not methods:
        return
    figure, axes = plt.subplots(1, len(sets), figsize=(3.2 * len(sets), 3.2), squeeze=False, layout="constrained")
    for axis, name in zip(axes[0], sets, strict=True):
        for row in (row for row in drawn if row["data"] == name and row["method"] in methods):
            minutes, dice = zip(*seen[row["cell"]], strict=True)
            axis.plot(minutes, dice, color=f"C{methods.index(row['method'])}", label=short(row["method"]))
        axis.set(title=name, ylim=(0, 1), xlabel="computed minutes")
    axes[0][0].set_ylabel("validation Dice")
    axes[0][-1].legend(fontsize=7)
    _save(figure, path)


def by_size(rows: list[Row], path: Path) -> None:
    """Dice against trained parameters, a panel for each data set, of the methods that all have; lines: yardsticks."""
    sets = [name for name in SETS if any(row["data"] == name for row in rows)]
    shared = _of_all(rows, sets)
    figure, axes = plt.subplots(1, len(sets), figsize=(3.2 * len(sets), 3), squeeze=False, layout="constrained")
    for axis, name in zip(axes[0], sets, strict=True):
        for i, method in enumerate(shared):
            some = [row for row in rows if (row["data"], row["method"]) == (name, method)]
            dice, count = spread([float(row["dice"]) for row in some])[0], int(some[0]["trained_parameters"] or 0)
            if count:
                axis.scatter(count, dice, color=COLOURS[_kind(method)], s=14)
                name_at = (3, -7 if i % 2 else 3)  # neighbours are named above and below
                axis.annotate(method.partition("/")[2], (count, dice), name_at, textcoords="offset points", fontsize=6)
            else:
                axis.axhline(dice, color="0.7", linewidth=0.8)
                place = {"mean-mask": 4e3, "otsu": 5e4}.get(method, 3e5)  # beside each other where Dice is the same
                axis.annotate(short(method), (place, dice), (0, 1), textcoords="offset points", fontsize=6, color="0.4")
        axis.set(title=name, ylim=(0, 1), xscale="log", xlim=(3e3, 3e7), xlabel="trained parameters")
    axes[0][0].set_ylabel("Dice")
    _save(figure, path)


def _of_all(rows: list[Row], sets: list[str]) -> list[str]:
    """Return the methods that have rows on all of the data sets."""
    found = {row["method"]: {one["data"] for one in rows if one["method"] == row["method"]} for row in rows}
    return [method for method, data in found.items() if data >= set(sets)]


def label_efficiency(rows: list[Row], path: Path) -> None:
    """Dice against the number of training images, a line for each method."""
    figure, axis = plt.subplots(figsize=(4, 3), layout="constrained")
    for method in dict.fromkeys(row["method"] for row in rows):
        own = sorted((int(row["train_images"]), float(row["dice"])) for row in rows if row["method"] == method)
        axis.plot(*zip(*own, strict=True), marker="o", markersize=3, label=short(method))
    axis.set(title=rows[0]["data"], xlabel="training images", ylabel="Dice")
    axis.legend(fontsize=7)
    _save(figure, path)


def _kind(method: str) -> str:
    room = method.partition("/")[0] if "/" in method else "rule"
    return room if room in COLOURS else "other"


def _save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
