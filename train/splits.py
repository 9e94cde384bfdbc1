"""What a training reads: the splits of one data folder, or of several as one, where the sentence must choose."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..deploy.annotations import SPLITS, Sample, choose_prompt, read_samples
from ..deploy.errors import UserError
from .recipe import Recipe
from .seeds import derive

Splits = dict[str, list[Sample]]
Folders = Path | str | Sequence[Path | str]


def folders_of(data: Folders) -> list[Path]:
    """Return the data folders; UserError where two have one name, by which their samples could not be told apart."""
    folders = [Path(data)] if isinstance(data, (str, Path)) else [Path(folder) for folder in data]
    names = [folder.resolve().name for folder in folders]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{len(twice)} data folders are called {twice[0]}: give each a name of its own")
    return folders


def sets_of(data: Folders) -> tuple[str, ...]:
    """Return the names of several data folders; of one alone, none."""
    folders = folders_of(data)
    return tuple(folder.resolve().name for folder in folders) if len(folders) > 1 else ()


def name_of(data: Folders) -> str:
    """Return what the data are called in a run: the folder's name, those of several with + between."""
    return "+".join(folder.resolve().name for folder in folders_of(data))


def read_splits(data: Folders, recipe: Recipe, sentence: str | None = None) -> Splits:
    """Return train, val and, where there is one, test; every prompt key is tried, so that a wrong one shows now.

    Of training and validation images, only as many as the recipe says are there, of each folder. The samples of several
    folders follow each other, and the name of each begins with its folder's: `FOLDER/NAME`.
    """
    folders = folders_of(data)
    if len(folders) > 1 and sentence is not None:
        raise UserError("one sentence for several data folders leaves nothing to choose by: give each annotations")
    read = [_read(folder, recipe, sentence) for folder in folders]
    if len(folders) == 1:
        return read[0]
    named = [
        {split: [replace(one, name=f"{folder.resolve().name}/{one.name}") for one in samples] for split, samples in own}
        for folder, own in zip(folders, (splits.items() for splits in read), strict=True)
    ]
    together = {split: [one for own in named for one in own.get(split, ())] for split in SPLITS}
    return {split: samples for split, samples in together.items() if samples}


def set_of(name: str) -> str:
    """Return the folder's name within the name of a sample, of several folders."""
    return name.partition("/")[0]


def by_set(samples: Sequence[Sample], sets: Sequence[str]) -> dict[str, list[Sample]]:
    """Return the samples of each folder; without `sets`, all of them under an empty name."""
    if not sets:
        return {"": list(samples)}
    return {name: [sample for sample in samples if set_of(sample.name) == name] for name in sets}


def some(samples: list[Sample], count: int | None) -> list[Sample]:
    """Return `count` of the samples, those whose names' hashes come first: a smaller draw lies inside a larger one."""
    if count is None:
        return samples
    first = sorted(range(len(samples)), key=lambda i: (derive(samples[i].name), i))[:count]
    return [samples[i] for i in sorted(first)]


def _read(data: Path, recipe: Recipe, sentence: str | None) -> Splits:
    names = ["train", "val"]
    if not (data / "anns").exists() or (data / "anns" / "test.json").exists():
        names.append("test")
    splits = {name: read_samples(data, name, sentence) for name in names}
    splits["train"] = some(splits["train"], recipe.train_images)
    splits["val"] = some(splits["val"], recipe.val_images)
    for name, samples in splits.items():
        for sample in samples:
            choose_prompt(sample, recipe.prompt if name == "train" else recipe.held_out_prompt)
    return splits
