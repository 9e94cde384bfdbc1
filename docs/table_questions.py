"""The questions of docs/evidence.md: words, few images, another hospital, settings, several sets, absent things."""

from collections.abc import Iterable
from functools import partial

from table_evidence import IMAGES, RULES, evidence_rows, named, short
from table_rows import Row, ranged, rows, table

NOT_YET = "No cell of this grid has been run yet."
WITHOUT_LEARNING = ("mean-mask", "otsu", "clipseg/frozen")


def newest(name: str) -> list[Row]:
    """Return the rows of a grid, the newest of each cell, sentence and set it was judged on."""
    return list({(row["cell"], row["prompt"], row["tested_on"]): row for row in rows(name)}.values())


def by_images() -> list[Row]:
    """Return the rows of the question how many images it takes."""
    return [named(row) for row in newest("few")]


def own(data: str, method: str) -> list[Row]:
    """Return the rows of the comparison: a part of this set alone, asked p1."""
    return [row for row in evidence_rows() if (row["data"], row["method"]) == (data, method)]


def beside(data: str, methods: Iterable[str] = RULES) -> list[Row]:
    """Return the rows that stand beside every table: what place, brightness, a U-Net and the frozen model reach."""
    return [row for method in methods for row in own(data, method)]


def dice(found: Iterable[Row]) -> str:
    """Return the mean Dice of rows, and their range over seeds where there are several."""
    return ranged([float(row["dice"]) for row in found])


def each(found: list[Row], *keys: str) -> list[list[Row]]:
    """Return the rows in groups of the same values, in the order in which these come first."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in found:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return list(groups.values())


def prompts() -> str:
    """Dice with each kind of sentence in training and in the question."""
    found = newest("prompts")
    lines = []
    for group in each(found, "data"):
        data = group[0]["data"]
        lines += [_sentences(data, some[0]["method"], some) for some in each(group, "method")]
        known = {method: own(data, method) for method in RULES}
        lines += [[data, short(m), "-", dice(some), *["-"] * 4, some[0]["n"]] for m, some in known.items() if some]
    header = ["data", "method", "no words", "p1", "richest", "another image's", "asked p1", "richest is", "images"]
    return table(header, lines) if lines else NOT_YET


def _sentences(data: str, method: str, found: list[Row]) -> list[str]:
    asked = {(row["train_prompt"], row["prompt"]): row for row in found}
    rich = next((row["train_prompt"] for row in found if row["train_prompt"] != "p0"), "-")
    keys = [(rich, rich), (rich, f"shuffled:{rich}"), (rich, "p1")]
    cells = [dice(asked[key] for key in [wanted] if key in asked) for wanted in [("p0", "p0"), *keys]]
    return [data, method, cells[0], dice(own(data, method)), *cells[1:], rich, found[0]["n"]]


def shift() -> str:
    """Dice where it was trained and in another hospital."""
    found = newest("shift")
    if not found:
        return NOT_YET
    data, other, lines = found[0]["data"], found[0]["tested_on"], []
    for row in found:
        home = own(data, row["method"])
        kept = f"{float(row['dice']) / float(home[0]['dice']):.0%}" if home else "-"
        lines.append([short(row["method"]), dice(home), dice([row]), kept, dice(own(other, row["method"])), row["n"]])
    header = ["method", f"{data}, its test images", f"{other}, all images", "kept", f"trained on {other}, its test"]
    return table([*header, "images"], lines)


def few() -> str:
    """Dice by the number of training images."""
    found = by_images()
    if not found:
        return NOT_YET
    data, counts = found[0]["data"], sorted({int(row["train_images"]) for row in found})
    lines = []
    for group in each(found, "method"):
        by_count = {n: [row for row in group if int(row["train_images"]) == n] for n in counts}
        lines.append([short(group[0]["method"]), *(dice(by_count[n]) for n in counts), group[0]["n"]])
    for row in beside(data, WITHOUT_LEARNING):
        lines.append([short(row["method"]), *["-"] * (len(counts) - 1), dice([row]), row["n"]])
    return table([f"Dice on {data}", *(f"{n} images" for n in counts), "test images"], lines)


def settings(name: str) -> str:
    """One line for each setting of a grid, with the published one where its budget is the same, and the yardsticks."""
    lines = []
    for group in each(newest(name), "data"):
        data, minutes = group[0]["data"], group[0]["minutes_allowed"]
        methods = dict.fromkeys(row["method"] for row in group if row["set"])
        published = [row for method in methods for row in own(data, method) if row["minutes_allowed"] == minutes]
        lines += [_setting(row) for row in [*published, *group, *beside(data)]]
    header = ["data", "method", "set", "trained", "steps", "validation Dice", "Dice", "seed", "images"]
    return table(header, lines) if lines else NOT_YET


def _setting(row: Row) -> list[str]:
    count = f"{int(row['trained_parameters']):,}" if row["trained_parameters"] else "-"
    scores = [f"{float(row[key]):.3f}" for key in ("val_dice", "dice")]
    said = "-" if row["method"] in RULES else _said(row) or "as published"
    return [row["data"], short(row["method"]), said, count, row["steps"] or "-", *scores, row["seed"], row["n"]]


def _said(row: Row) -> str:
    return row["set"].replace("options.", "")


def many() -> str:
    """Each set's own part against one for all of them, by Dice on each set's test images, asked p1."""
    found = [row for row in newest("many") if row["prompt"] == "p1" and "+" in row["data"]]
    if not found:
        return NOT_YET
    sets, lines = list(dict.fromkeys(name for row in found for name in row["data"].split("+"))), []
    for group in each(found, "method"):
        method = group[0]["method"]
        lines.append([method, "one for each", *(dice(own(name, method)) for name in sets)])
        lines += [[method, f"one for all, {_how(some[0])}", *_by_set(some, sets)] for some in each(group, "cell")]
    lines += [[short(method), "one for each", *(dice(own(name, method)) for name in sets)] for method in RULES]
    return table(["method", "trained", *sets], lines)


def _how(row: Row) -> str:
    images = f", {row['train_images']} images of each" if row["train_images"] != IMAGES else ""
    return f"{row['minutes_allowed']} min{images}" + (f", {_said(row)}" if row["set"] else "")


def _by_set(found: list[Row], sets: list[str]) -> list[str]:
    return [dice(row for row in found if row["tested_on"] == name) for name in sets]


def absent() -> str:
    """How often the answer to a sentence about something else is as good as empty: less than 1 % of the area."""
    lines = []
    for group in each([row for row in newest("many") if row["prompt"].startswith("absent")], "cell", "prompt"):
        row, count = group[0], sum(int(row["n"]) for row in group)
        share = sum(float(row["empty_share"]) * int(row["n"]) for row in group) / count
        asked = row["prompt"].removeprefix("absent=") if "=" in row["prompt"] else "another object's phrase"
        trained = row["data"].replace("+", ", ")
        lines.append([row["method"], trained, _how(row), asked, f"{share:.1%}", str(count)])
    header = ["method", "trained on", "for", "asked", "answers below 1 % of the area", "images"]
    return table(header, lines) if lines else NOT_YET


def forgetting() -> str:
    """What is left of each set after learning the next ones, beside a part for each and one for all at once."""
    found = [row for row in newest("many") if row["prompt"] == "p1"]
    chains = [row for row in found if ">" in row["data"]]
    if not chains:
        return NOT_YET
    sets = max((row["data"] for row in chains), key=len).split(">")
    lines = []
    for group in each(chains, "method"):
        method = group[0]["method"]
        lines.append([method, "one for each", *(dice(own(name, method)) for name in sets)])
        lines.append([method, f"after {sets[0]}", dice(own(sets[0], method)), *["-"] * (len(sets) - 1)])
        for some in each(group, "data"):
            lines.append([method, f"then {some[0]['data'].split('>')[-1]}", *_by_set(some, sets)])
        for some in each([r for r in found if "+" in r["data"] and r["method"] == method], "cell"):
            lines.append([method, f"all at once, {_how(some[0])}", *_by_set(some, sets)])
    lines += [[short(method), "one for each", *(dice(own(name, method)) for name in sets)] for method in RULES]
    return table(["method", "trained", *sets], lines)


TABLES = {
    "absent": absent,
    "few": few,
    "forgetting": forgetting,
    "learn": partial(settings, "learn"),
    "many": many,
    "prompts": prompts,
    "shift": shift,
    "tune": partial(settings, "tune"),
    "where": partial(settings, "where"),
}
