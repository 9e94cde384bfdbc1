"""Sentences and splits that others have published for a data set, found again by the name of the mask or the image."""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import BadZipFile

from ...deploy.annotations import SPLITS
from ...deploy.errors import UserError
from ...deploy.files import read_json

Prompts = dict[str, str | list[str]]
TABLE = re.compile(r"(?i)(train|val|test)[^/]*text[^/]*\.(xlsx|csv)$")


@dataclass
class Script:
    """By the name of a mask or image without suffix, the splits it is in and what is said of it there."""

    source: Path
    entries: dict[str, list[tuple[str, Prompts]]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def add(self, key: str, split: str, prompts: Prompts) -> None:
        """Enter one sentence set."""
        self.entries.setdefault(key, []).append((split, prompts))

    def take(self, *keys: str) -> list[tuple[str, Prompts]]:
        """Return what is said under the first known of `keys`, and note that it was asked for."""
        for key in keys:
            if key in self.entries:
                self.used.add(key)
                return self.entries[key]
        return []

    @property
    def unused(self) -> list[str]:
        """Names of which the source had no mask."""
        return sorted(self.entries.keys() - self.used)


def read_annotations(folder: Path, known_as: str, prefixes: Mapping[str, str]) -> Script | None:
    """Return the published annotation files (`{train,val,test}.json`) found at or below `folder`, or None.

    They may lie in `folder`, its `anns/`, or below a folder called `known_as`. `prefixes` says, by split, what stands
    before their mask names in our layout. UserError for a file that is not such a list.
    """
    places = (folder, folder / "anns", folder / known_as / "anns", folder / "data" / known_as / "anns")
    place = next((place for place in places if any((place / f"{split}.json").is_file() for split in SPLITS)), None)
    if place is None:
        return None
    script = Script(place)
    for split in SPLITS:
        path = place / f"{split}.json"
        for entry in read_json(path) if path.is_file() else ():
            script.add(prefixes.get(split, "") + _stem(entry, "mask_name", path), split, _prompts(entry, path))
    return script


def read_tables(files: Mapping[str, Path], phrase: str) -> Script | None:
    """Return the published tables of one sentence an image (`Train_text*.xlsx` and its kin, or CSV), or None.

    p1 is `phrase`, the words for the class; p2 the sentence of the table's second column.
    """
    tables = [(match[1].lower(), files[name]) for name in files if (match := TABLE.search(name))]
    if not tables:
        return None
    script = Script(tables[0][1].parent)
    for split, path in tables:
        for name, sentence in _rows(path):
            script.add(PurePosixPath(name).stem.removeprefix("mask_"), split, {"p0": "", "p1": phrase, "p2": sentence})
    return script


def _stem(entry: Any, key: str, path: Path) -> str:
    if not isinstance(entry, dict) or not isinstance(entry.get(key), str):
        raise UserError(
            f"{path} has an entry without {key}: expected the published list of img_name, mask_name, prompts"
        )
    return PurePosixPath(entry[key]).with_suffix("").as_posix()


def _prompts(entry: dict[str, Any], path: Path) -> Prompts:
    prompts = entry.get("prompts")
    if not isinstance(prompts, dict) or not prompts:
        raise UserError(f"{path} has an entry without prompts: expected the published list")
    return prompts


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (image, sentence) of a table whose first row is a heading."""
    if path.suffix.lower() == ".csv":
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    else:
        rows = _sheet(path)
    for row in rows[1:]:
        if len(row) >= 2 and row[0] and row[1]:
            yield str(row[0]), str(row[1]).strip()


def _sheet(path: Path) -> list[Any]:
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = load_workbook(path, read_only=True, data_only=True)
        rows = [list(row) for row in book.worksheets[0].iter_rows(values_only=True)]
        book.close()
    except (InvalidFileException, BadZipFile, OSError, ValueError, KeyError) as error:
        raise UserError(f"cannot read the table {path} ({error}): save it again as .xlsx or .csv") from error
    return rows
