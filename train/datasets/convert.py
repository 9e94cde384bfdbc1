"""`vlseg data convert`: a data set as it is published, into the layout that training reads."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...deploy.errors import UserError
from ...deploy.files import atomic_folder
from .coco import read_coco
from .index_mask import read_index_masks
from .items import Item, Shot, with_splits
from .layouts import Layout, few, find_items, missing
from .published import DATASETS, DataSet
from .script import Prompts, Script, read_annotations, read_tables
from .tree import Tree, opened
from .writer import MARKER, Writer
from .yolo import read_yolo

FORMATS: dict[str, Callable[[Tree], list[Item]]] = {
    "coco": read_coco,
    "yolo": read_yolo,
    "index-mask": read_index_masks,
}
Say = Callable[[str], None]


def convert(
    name: str,
    source: Path | str,
    out: Path | str,
    *,
    prompts: Path | str | None = None,
    overwrite: bool = False,
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Write the folder `out` (images/, masks/, anns/, source.json) from a published data set or a known format.

    `name` is one of `DATASETS` or `FORMATS`. `prompts` is a folder of published prompt files, which then also say the
    splits; without it a sentence of the class is p1, and the split is the owners', or made here by hash. Returns what
    `source.json` holds, with `samples` for each split.

    Raises:
        UserError: an unknown name, parts of the source that are missing (each is named), prompts of which the source
            has no mask, a folder that is not ours. Nothing is written then.
    """
    if name not in DATASETS and name not in FORMATS:
        raise UserError(f"no data set or format {name!r}; known: {', '.join([*FORMATS, *DATASETS])}")
    with atomic_folder(out, MARKER, overwrite) as folder, opened(source, folder.parent) as tree:
        job = _job(name, tree, None if prompts is None else Path(prompts))
        writer = Writer(folder)
        for number, item in enumerate(job.items, 1):
            for shot, said in job.samples(item):
                writer.add(item, shot.name, shot.mask, said)
            if number % 500 == 0:
                say(f"{number} of {len(job.items)} images")
        job.check(writer)
        about = {"name": name, "title": job.title, "prompts": job.told_by, "images_found": len(job.items)}
        return writer.finish(about, job.copies)


@dataclass(frozen=True)
class Job:
    """What one conversion writes."""

    title: str
    items: list[Item]
    script: Script | None
    sentence: str = "{phrase}"
    copies: Mapping[str, str] = field(default_factory=dict)

    @property
    def told_by(self) -> str:
        """Say where the sentences come from."""
        return "the words of the class" if self.script is None else "published files"

    def samples(self, item: Item) -> Iterator[tuple[Shot, list[tuple[str, Prompts]]]]:
        """Yield each mask of an image that is wanted, with the splits and sentences of its samples."""
        for shot in item.shots():
            if self.script is not None:
                if said := self.script.take(shot.name, item.name):
                    yield shot, said
            elif item.split is not None:
                yield shot, [(item.split, {"p0": "", "p1": self.sentence.format(phrase=shot.phrase)})]

    def check(self, writer: Writer) -> None:
        """UserError where prompts found no mask, or nothing was written."""
        if self.script is not None and (lost := self.script.unused):
            known = len(self.script.entries)
            raise UserError(
                f"{len(lost)} of {known} masks that the prompts in {self.script.source} name are not in the source "
                f"({few(lost)}): add them, or leave the prompts out"
            )
        if not writer.entries:
            raise UserError(f"{self.title}: the source shows no object of a known class, so there is nothing to write")


def _job(name: str, tree: Tree, prompts: Path | None) -> Job:
    if name in FORMATS:
        if prompts is not None:
            raise UserError(f"published prompts belong to a published data set, not to {name}: leave them out")
        return Job(name, with_splits(FORMATS[name](tree)), None)
    dataset = DATASETS[name]
    items = find_items(tree, _layout(dataset, tree), dataset.classes)
    script = _script(dataset, tree, prompts)
    items = with_splits(items) if script is None else items
    return Job(dataset.title, items, script, dataset.sentence, dataset.copies)


def _layout(dataset: DataSet, tree: Tree) -> Layout:
    """Return the layout that the source has; UserError names what the nearest one lacks, and where it is had."""
    lacking = [missing(tree, layout) for layout in dataset.layouts]
    nearest = min(range(len(lacking)), key=lambda i: len(lacking[i]))
    if lacking[nearest]:
        raise UserError(
            f"{tree.source} is not {dataset.title} as published; missing: {'; '.join(lacking[nearest])}: "
            f"get it from {dataset.home}"
        )
    return dataset.layouts[nearest]


def _script(dataset: DataSet, tree: Tree, prompts: Path | None) -> Script | None:
    phrase = next(iter(dataset.classes.values()))
    if prompts is None:
        return read_tables(tree.files, phrase)
    if not prompts.is_dir():
        raise UserError(f"no folder of prompts {prompts}: expected one with train.json or tables of text")
    tables = {path.relative_to(prompts).as_posix(): path for path in sorted(prompts.rglob("*")) if path.is_file()}
    script = read_annotations(prompts, dataset.known_as or "-", dataset.prefixes) or read_tables(tables, phrase)
    if script is None:
        raise UserError(f"{prompts} holds no prompts: expected {{train,val,test}}.json or Train_text.xlsx and its kin")
    return script
