"""The trials of the runtime, from measured/runtime.csv: beside the engine, threads between operators, huge pages."""

from functools import partial

from table_rows import Row, interval, rows, table

BESIDES = (("all but the engine", "engine"), ("file to input", "Pillow's decode and resize"))
BESIDES += (("all but the engine", "Pillow's decode, resize, and resize of the answer"),)


def trial(name: str) -> list[Row]:
    """Return the ratios of one trial, oldest first."""
    return [row for row in rows("runtime") if row["trial"] == name and row["unit"] == "ratio"]


def besides() -> str:
    """What decoding, resizing, the mask and Python cost: a line for each run of the trial on two threads."""
    found = {
        (row["date"][:15], row["data"], row["arm"], row["against"]): row for row in trial("file to mask, wall time")
    }
    lines = [
        [data, *(interval(found.get((date, data, *pair)), "value") for pair in BESIDES)]
        for date, data in dict.fromkeys(key[:2] for key in found)
    ]
    return table(["pictures", *(f"{arm} / {other}" for arm, other in BESIDES)], lines)


def by_circumstance(name: str) -> str:
    """What each way takes by what the trial compares it with: a line for each part and circumstance."""
    found = {(row["data"], row["arm"]): row for row in trial(name)}
    ways = list(dict.fromkeys(arm for _, arm in found))
    lines = [
        [data, *(interval(found.get((data, way)), "value") for way in ways)]
        for data in dict.fromkeys(data for data, _ in found)
    ]
    return table(["what", *ways], lines)


TABLES = {
    "besides": besides,
    "waiting": partial(by_circumstance, "threads between operators"),
    "pages": partial(by_circumstance, "huge pages"),
}
