"""Write the tables of README.md and docs/*.md from the rows in docs/measured; `--check` only compares.

A table stands between `<!-- table NAME -->` and `<!-- end -->`; nobody edits it by hand.
"""

import importlib.util
import re
import sys
from collections.abc import Callable
from functools import partial
from itertools import takewhile
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))
import table_evidence  # noqa: E402 - scripts beside this one
import table_questions  # noqa: E402
import table_runtime  # noqa: E402
from table_rows import Row, interval, rows, table  # noqa: E402

BLOCK = re.compile(r"(<!-- table (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


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


def latency(method: str) -> str:
    """Ratios of interleaved pairs, wall clock, on one thread and on two: the newest row of each measurement."""
    found = [row for row in rows("export") if (row["method"], row["clock"]) == (method, "wall")]
    newest = {(row["measurement"], row["threads"]): row for row in found}
    lines = [
        [
            what,
            next(row["goal"] for row in found if row["measurement"] == what),
            *(interval(newest.get((what, threads))) for threads in "12"),
        ]
        for what in dict.fromkeys(what for what, _ in newest)
    ]
    return table(["ratio", "goal, at most", "one thread", "two threads"], lines)


def inside() -> str:
    """Where the time of the image part goes in ONNX Runtime and in OpenVINO, on one thread and on two."""
    newest = {(row["kind"], row["threads_of_engine"]): row for row in rows("inside")}
    lines = [
        [kind, *(cell for threads in "12" for cell in _beside(newest.get((kind, threads), {})))]
        for kind in dict.fromkeys(kind for kind, _ in newest)
    ]
    return table(["kind", "ms, one thread", "OpenVINO", "ratio", "ms, two threads", "OpenVINO", "ratio"], lines)


def _beside(row: Row) -> list[str]:
    """Return the milliseconds of both engines and their ratio; of no row, dashes."""
    if not row:
        return ["-"] * 3
    return [*(f"{float(row[f'{name}_ms']):.2f}" for name in ("onnxruntime", "openvino")), interval(row)]


def rtx_engines() -> str:
    """The engines of TensorRT-RTX built on a CPU: one line for each part, the newest row of each, by method."""
    named = ("method", "size", "precision", "opset", "part")
    newest = {tuple(row[name] for name in named): row for row in rows("rtx")}
    header = [*named, "eight-bit", "cards (sm)", "ONNX, MB", "engine, MB", "build, s"]
    lines = [
        [
            *key,
            *(row[name] for name in ("eight_bit_linears", "architectures")),
            *(f"{int(row[name]) / 1e6:.1f}" for name in ("onnx_bytes", "plan_bytes")),
            row["seconds"],
        ]
        for key, row in sorted(newest.items(), key=lambda item: item[0][:-1])
    ]
    return table(header, lines)


def int8() -> str:
    """Int8 time by float32 time on a CPU, the time that this thread computed."""
    found = [row for row in rows("int8") if row["clock"] == "cpu"]
    lines = [[row["size"], row["stage"], interval(row), row["instructions"]] for row in found]
    return table(["size", "what", "int8 / float32 (95 %)", "instruction sets"], lines)


def int8_dice() -> str:
    """Dice on test images of one run, as float32 bundle and as one of fewer bits; the newest row of each."""
    newest = {(row["data"], row["precision"], row["minutes"]): row for row in rows("int8_dice")}
    lines = [
        [
            row["data"],
            row["precision"],
            f"{float(row['float']):.4f}",
            f"{float(row['fewer_bits']):.4f}",
            f"{100 * (float(row['fewer_bits']) - float(row['float'])):+.2f}",
            row["groups"],
        ]
        for row in newest.values()
    ]
    return table(["data", "precision", "float32", "fewer bits", "points", "groups in eight bits"], lines)


def swap() -> str:
    """What changing an adapter moves and takes, and adapters as inputs by adapters as constants."""
    found = [row for row in rows("swap") if row["clock"] == "cpu"]
    lines = [
        [row["size"], f"{int(row['bytes']) / 1e6:.2f}", row["swap_ms"], row["reopen_ms"], row["stage"], interval(row)]
        for row in found
    ]
    return table(["size", "MB", "swap, ms", "opening again, ms", "what", "inputs / constants (95 %)"], lines)


def lga() -> str:
    """What LGA's modules and a training step cost at the published size; the newest row of each."""
    found = {
        (row["measurement"], row["image_size"], row["tokens"]): row
        for row in rows("lga")
        if not row["measurement"].startswith("latency")
    }
    lines = [
        [name, side, tokens or "-", _lga_value(row), f"{float(row['goal']):g}" if row["goal"] else "-"]
        for (name, side, tokens), row in found.items()
    ]
    return table(["what", "pixels", "text tokens", "found (95 %)", "goal, at most"], lines)


def _lga_value(row: Row) -> str:
    between = f" ({float(row['low']):.3g} to {float(row['high']):.3g})" if row["low"] else ""
    return f"{float(row['value']):.4g}{between}" + ("" if row["unit"] == "ratio" else f" {row['unit']}")


def lga_accuracy() -> str:
    """Dice of LGA's arms at the tiny size, random weights: one line for each cell that was run."""
    if not rows("lga-accuracy"):
        return "No cell of the grid has been run yet."
    lines = []
    for row in rows("lga-accuracy"):
        arm = " ".join(word.removeprefix("options.") for word in row["set"].split() if word.startswith(LGA_ARMS))
        lines.append([row["data"], row["method"], arm or "as published", row["seed"], row["prompt"], row["n"]])
        lines[-1] += [f"{float(row['dice']):.3f}", row["steps"] or "-"]
    return table(["data", "method", "set", "seed", "asked", "images", "Dice", "steps"], lines)


def lga_sizes() -> str:
    """Latency of LGA at each side of the picture, and at the tiny size the Dice of its cell; `-` where none was run."""
    found = {(row["size"], row["image_size"], row["measurement"]): row for row in rows("lga")}
    sides = [key[:2] for key in found if key[2] == "latency, one thread"]
    arms = [row for row in rows("lga-accuracy") if tuple(row[key] for key in SIDES) == tuple(SIDES.values())]
    plain = [row for row in arms if "options." not in row["set"]]
    dice = {("tiny", row["image_size"]): f"{float(row['dice']):.3f}" for row in plain}
    lines = []
    for size, side in sides:
        ratio, seconds = found[size, side, "latency over that at 1024 pixels"], found[size, side, "latency, one thread"]
        lines.append([size, side, dice.get((size, side), "-"), _lga_value(ratio), seconds["value"]])
    return table(["size", "pixels", "Dice (busi, p6)", "latency / that at 1024 (95 %)", "s"], lines)


def lga_pairs() -> str:
    """Arms of LGA's grid against each other, image by image."""
    if not rows("lga-pairs"):
        return "No arms have been compared yet."
    newest = {(row["data"], row["a"], row["prompt_a"], row["b"], row["prompt_b"]): row for row in rows("lga-pairs")}
    lines = [
        [*key, row["seeds"], row["n"], f"{float(row['difference']):+.4f} ({row['low']} to {row['high']})"]
        for key, row in newest.items()
    ]
    return table(["data", "a", "asked", "b", "asked", "seeds", "images", "Dice of a - b (95 %)"], lines)


SIDES = {"data": "busi", "method": "sam/lga", "prompt": "p6", "train_prompt": "p6", "seed": "41"}
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
    **table_evidence.TABLES,
    **table_questions.TABLES,
    **table_runtime.TABLES,
    "base": base,
    "commands": commands,
    "inside": inside,
    "int8": int8,
    "int8_dice": int8_dice,
    "latency": partial(latency, "clipseg/dense-vl"),
    "latency-prompts": partial(latency, "clipseg/coop"),
    "lga": lga,
    "lga-accuracy": lga_accuracy,
    "lga-pairs": lga_pairs,
    "lga-sizes": lga_sizes,
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
