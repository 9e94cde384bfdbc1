"""Write the tables of README.md and docs/*.md from the rows in docs/measured; `--check` only compares.

A table stands between `<!-- table NAME -->` and `<!-- end -->`; nobody edits it by hand.
"""

import csv
import importlib.util
import re
import sys
from collections.abc import Callable
from functools import partial
from itertools import takewhile
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


SETS = ("ph2_skin", "kvasir_seg", "dsb2018_nuclei", "busi")
RULES = {"mean-mask": "mean mask", "otsu": "Otsu", "image/unet": "U-Net", "clipseg/frozen": "frozen"}
IMAGES = "140"  # training images of the comparison


def evidence_rows() -> list[Row]:
    """Return the rows of the comparison: p1, the newest of each seed, on the newest frozen weights of each backbone."""
    if not (MEASURED / "evidence.csv").exists():
        return []
    found = [row for row in rows("evidence") if (row["prompt"], row["set"], row["train_images"]) == ("p1", "", IMAGES)]
    weights = {row["method"].partition("/")[0]: row["weights_hash"] for row in found}
    newest = {
        (row["data"], row["method"], row["seed"]): row
        for row in found
        if row["tested_on"] == row["data"] and row["weights_hash"] == weights[row["method"].partition("/")[0]]
    }
    return list(newest.values())


def curves() -> dict[str, list[tuple[float, float]]]:
    """Return for each cell its epochs: computed minutes and validation Dice."""
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for row in rows("curves"):
        found.setdefault(row["cell"], {})[int(row["epoch"])] = (float(row["minutes"]), float(row["val_dice"]))
    return {cell: [epochs[i] for i in sorted(epochs)] for cell, epochs in found.items()}


def spread(values: list[float]) -> tuple[float, float, float]:
    """Return the mean, the smallest and the largest."""
    return mean(values), min(values), max(values)


def short(method: str) -> str:
    """Return what a method is called in a table."""
    return RULES.get(method, method)


def compared() -> str:
    """Dice of every method on every data set: the mean over seeds, and their range where there are several."""
    found = evidence_rows()
    sets = [name for name in SETS if any(row["data"] == name for row in found)]
    methods = list(dict.fromkeys(row["method"] for row in found))
    lines = [[short(method), *(_cell(found, method, data, "dice", 3) for data in sets)] for method in methods]
    return table(["Dice", *sets], lines)


def cost() -> str:
    """What each method trains, how fast it gets there, and IoU and HD95, on the smallest set."""
    found = [row for row in evidence_rows() if row["data"] == SETS[0]]
    lines = []
    for method in dict.fromkeys(row["method"] for row in found):
        row = next(row for row in found if row["method"] == method)
        trained = f"{int(row['trained_parameters']):,}" if row["trained_parameters"] else "-"
        figures = [_cell(found, method, SETS[0], name, digits) for name, digits in (("iou", 3), ("hd95", 1))]
        almost = _cell(found, method, SETS[0], "minutes_to_95", 2) if row["minutes_to_95"] else "-"
        lines.append([short(method), trained, row["megabytes"] or "-", *figures, row["epochs"] or "-", almost])
    return table(["method", "trained", "MB", "IoU", "HD95, px", "epochs", "minutes to 95 %"], lines)


def against_full() -> str:
    """Dice of each method as a share of full fine-tuning's, for the seeds that both have."""
    found = evidence_rows()
    full = {(row["data"], row["seed"]): float(row["dice"]) for row in found if row["method"] == "clipseg/full"}
    sets = [name for name in SETS if any(data == name for data, _ in full)]
    lines = []
    for method in dict.fromkeys(row["method"] for row in found if row["method"] != "clipseg/full"):
        own = [row for row in found if row["method"] == method and (row["data"], row["seed"]) in full]
        shares = {name: [float(r["dice"]) / full[name, r["seed"]] for r in own if r["data"] == name] for name in sets}
        lines.append([short(method), *(f"{mean(values):.1%}" if values else "-" for values in shares.values())])
    return table(["of full fine-tuning's Dice", *sets], lines)


def _cell(found: list[Row], method: str, data: str, figure: str, digits: int) -> str:
    values = [float(row[figure]) for row in found if (row["method"], row["data"]) == (method, data)]
    if not values:
        return "-"
    middle, low, high = spread(values)
    return f"{middle:.{digits}f}" + (f" ({low:.{digits}f} to {high:.{digits}f})" if len(values) > 1 else "")


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


def rtx_engines() -> str:
    """The engines of TensorRT-RTX built on a CPU: one line for each part, the newest row of each."""
    newest = {(row["method"], row["size"], row["precision"], row["part"]): row for row in rows("rtx")}
    header = ["method", "size", "precision", "part", "cards (sm)", "ONNX, MB", "engine, MB", "build, s"]
    lines = [
        [
            *key,
            row["architectures"],
            *(f"{int(row[name]) / 1e6:.1f}" for name in ("onnx_bytes", "plan_bytes")),
            row["seconds"],
        ]
        for key, row in newest.items()
    ]
    return table(header, lines)


def int8() -> str:
    """Int8 time by float32 time on a CPU, the time that this thread computed."""
    found = [row for row in rows("int8") if row["clock"] == "cpu"]
    lines = [[row["size"], row["stage"], _interval(row), row["instructions"]] for row in found]
    return table(["size", "what", "int8 / float32 (95 %)", "instruction sets"], lines)


def int8_dice() -> str:
    """Dice on test images of one run, as float32 and as int8 bundle."""
    found = rows("int8_dice")
    lines = [
        [
            row["data"],
            f"{float(row['float']):.4f}",
            f"{float(row['int8']):.4f}",
            f"{100 * (float(row['int8']) - float(row['float'])):+.2f}",
            row["quantised"],
        ]
        for row in found
    ]
    return table(["data", "float32", "int8", "points", "groups in int8"], lines)


def swap() -> str:
    """What changing an adapter moves and takes, and adapters as inputs by adapters as constants."""
    found = [row for row in rows("swap") if row["clock"] == "cpu"]
    lines = [
        [row["size"], f"{int(row['bytes']) / 1e6:.2f}", row["swap_ms"], row["reopen_ms"], row["stage"], _interval(row)]
        for row in found
    ]
    return table(["size", "MB", "swap, ms", "opening again, ms", "what", "inputs / constants (95 %)"], lines)


def _interval(row: Row) -> str:
    return f"{float(row['ratio']):.3f} ({float(row['low']):.3f} to {float(row['high']):.3f})"


def lga() -> str:
    """What LGA's modules and a training step cost at the published size; the newest row of each."""
    found = {(row["measurement"], row["image_size"], row["tokens"]): row for row in rows("lga")}
    lines = [
        [name, side, tokens or "-", _lga_value(row), f"{float(row['goal']):g}" if row["goal"] else "-"]
        for (name, side, tokens), row in found.items()
    ]
    return table(["what", "pixels", "text tokens", "found (95 %)", "goal, at most"], lines)


def _lga_value(row: Row) -> str:
    between = f" ({float(row['low']):.3g} to {float(row['high']):.3g})" if row["low"] else ""
    return f"{float(row['value']):.3g}{between}" + ("" if row["unit"] == "ratio" else f" {row['unit']}")


def lga_accuracy() -> str:
    """Dice of LGA's arms at the tiny size, random weights: one line for each cell that was run."""
    if not (MEASURED / "lga-accuracy.csv").exists():
        return "No cell of the grid has been run yet."
    lines = []
    for row in rows("lga-accuracy"):
        arm = " ".join(word.removeprefix("options.") for word in row["set"].split() if word.startswith(LGA_ARMS))
        lines.append([row["data"], row["method"], arm or "as published", row["seed"], row["prompt"], row["n"]])
        lines[-1] += [f"{float(row['dice']):.3f}", row["steps"] or "-"]
    return table(["data", "method", "set", "seed", "asked", "images", "Dice", "steps"], lines)


LGA_ARMS = ("options.", "image_size")


def copied(page: str, head: str) -> str:
    """Return a table of another page, the first whose head begins so: what stands in two places is written once."""
    lines = (DOCS / f"{page}.md").read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(head))
    return "\n".join(takewhile(lambda line: line.startswith("|"), lines[first:]))


def commands() -> str:
    """How many command lines and snippets of the documentation the tests run."""
    spec = importlib.util.spec_from_file_location("fences", DOCS / "fences.py")
    assert spec and spec.loader
    module = sys.modules["fences"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.told()


TABLES: dict[str, Callable[[], str]] = {
    "against-full": against_full,
    "base": base,
    "commands": commands,
    "cost": cost,
    "evidence": compared,
    "int8": int8,
    "int8_dice": int8_dice,
    "latency": latency,
    "lga": lga,
    "lga-accuracy": lga_accuracy,
    "rtx": rtx_engines,
    "swap": swap,
    "verified-engines": partial(copied, "benchmark", "| name | what | checked here"),
    "verified-jetson": partial(copied, "jetson", "| what | how it was verified"),
    "verified-precision": partial(copied, "precision", "| what | how it was verified"),
    "verified-tensorrt": partial(copied, "tensorrt", "| what | run on a GPU"),
}


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
