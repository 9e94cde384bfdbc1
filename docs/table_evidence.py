"""The comparison of docs/evidence.md: which way of tuning, on each set of images."""

from statistics import mean

from table_rows import Row, ranged, rows, table

SETS = ("ph2_skin", "kvasir_seg", "dsb2018_nuclei", "busi", "cvc_clinicdb", "cxr_covid")
RULES = {"mean-mask": "mean mask", "otsu": "Otsu", "image/unet": "U-Net", "clipseg/frozen": "frozen"}
IMAGES = "140"  # training images of the comparison; cxr_covid has 69
FILES = ("evidence", "home", "tune")
# what the presets of recipes/plus.toml set, dense and shallow
PLUS = ("options.outer=identity options.init=zero lr=4e-3", "options.outer=identity options.init=zero lr=2e-3")


def evidence_rows() -> list[Row]:
    """Return the rows of the comparison: p1, the newest of each seed, on the newest frozen weights of each backbone.

    A method with the settings of its preset `+` is a method of its own, with a + behind its name.
    """
    found = [
        named(row)
        for name in FILES
        for row in rows(name)
        if (row["prompt"], row["train_prompt"], row["train_images"]) == ("p1", "p1", IMAGES)
        if row["set"] in ("", *PLUS)
    ]
    weights = {row["method"].partition("/")[0]: row["weights_hash"] for row in found}
    newest = {
        (row["data"], row["method"], row["seed"]): row
        for row in found
        if row["tested_on"] == row["data"] and row["weights_hash"] == weights[row["method"].partition("/")[0]]
    }
    published = list(dict.fromkeys(_published(row) for row in found))
    return sorted(newest.values(), key=lambda row: published.index(_published(row)))


def named(row: Row) -> Row:
    """Return a row with a + behind its method where the settings are those of the method's preset of ours."""
    return row | {"method": row["method"] + "+"} if row["set"].endswith(PLUS) else row


def _published(row: Row) -> str:
    """Return the method that a row's is, or is a preset of."""
    return row["method"].removesuffix("+") if row["set"] else row["method"]


def curves() -> dict[str, list[tuple[float, float]]]:
    """Return for each cell its epochs: computed minutes and validation Dice."""
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for row in rows("curves"):
        found.setdefault(row["cell"], {})[int(row["epoch"])] = (float(row["minutes"]), float(row["val_dice"]))
    return {cell: [epochs[i] for i in sorted(epochs)] for cell, epochs in found.items()}


def short(method: str) -> str:
    """Return what a method is called in a table."""
    return RULES.get(method, method)


def sets_in(found: list[Row]) -> list[str]:
    """Return the data sets that there are rows of, in the order of the tables."""
    return [name for name in SETS if any(row["data"] == name for row in found)]


def compared(least: int = 1) -> str:
    """Dice of every method on every data set: the mean over seeds, and their range where there are several.

    Of the methods that were run on `least` data sets or more.
    """
    found = evidence_rows()
    sets = sets_in(found)
    run = {method: {row["data"] for row in found if row["method"] == method} for method in (r["method"] for r in found)}
    methods = [method for method, data in run.items() if len(data) >= least]
    lines = [[short(method), *(_cell(found, method, data, "dice", 3) for data in sets)] for method in methods]
    return table(["Dice", *sets], lines)


def main_methods() -> str:
    """The same, of the methods that were run on several data sets."""
    return compared(least=2)


def learned() -> str:
    """How far each method's validation Dice rises on the smallest set, above that of its frozen model.

    Where a backbone has no frozen row, above the first epoch's, which is behind some training already.
    """
    found = [row for row in evidence_rows() if row["data"] == SETS[0] and row["trained_parameters"] not in ("", "0")]
    lines = []
    for method in dict.fromkeys(row["method"] for row in found):
        own = [row for row in found if row["method"] == method]
        starts, ends = [_start(row) for row in own], [float(row["val_dice"]) for row in own]
        rises = [end - start for start, end in zip(starts, ends, strict=True)]
        # a frozen model is the same whatever the seed
        lines.append([short(method), *map(ranged, (starts[:1] if len(set(starts)) == 1 else starts, ends, rises))])
    return table(["method", "start", "best", "rise"], lines)


def _start(row: Row) -> float:
    """Return the validation Dice that a run began with."""
    room = row["method"].partition("/")[0]
    same = [other for other in evidence_rows() if (other["data"], other["method"]) == (row["data"], f"{room}/frozen")]
    return float(same[-1]["val_dice"]) if same else curves()[row["cell"]][0][1]


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
    return ranged([float(row[figure]) for row in found if (row["method"], row["data"]) == (method, data)], digits)


TABLES = {
    "against-full": against_full,
    "cost": cost,
    "evidence-main": main_methods,
    "learned": learned,
    "evidence": compared,
}
