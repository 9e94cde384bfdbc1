"""Which files are to be segmented, and where what is found of each goes."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from .errors import UserError
from .inputs.files import is_readable
from .pixels import SUFFIXES

FORMATS = {"png": ".png", "overlay": ".overlay.png", "rle": ".rle.json", "dicom-seg": ".seg.dcm", "nifti": ".nii.gz"}
"""How each format ends the name of a file in a folder of results."""
_BY_SUFFIX = {".png": "png", ".json": "rle", ".dcm": "dicom-seg", ".nii": "nifti", ".nii.gz": "nifti"}


@dataclass(frozen=True)
class Job:
    """One file to segment.

    Attributes:
        source: the file.
        stem: path of its results without a suffix; each format adds its own.
        exact: the one file to write, where the user named it.
    """

    source: Path
    stem: Path
    exact: Path | None = None

    def target(self, form: str, index: int | None = None) -> Path:
        """Return where a format goes; `index` numbers the pictures of a stack, where each is a file of its own."""
        number = "" if index is None else f"_{index:04}"
        return self.exact or self.stem.with_name(f"{self.stem.name}{number}{FORMATS[form]}")


@dataclass(frozen=True)
class Plan:
    """All the jobs of one call.

    Attributes:
        jobs: at least one, each with a stem of its own.
        formats: what is written of each; empty where every file decides by its kind.
        folder: the folder of results, where there may be several; None where one file was named.
    """

    jobs: list[Job]
    formats: tuple[str, ...]
    folder: Path | None


def plan(sources: Sequence[Path | str], out: Path | str, formats: Sequence[str] = ()) -> Plan:
    """Return what to do with files, folders and glob patterns.

    A single file goes to the file `out` if that ends as a format does (.png, .json, .dcm, .nii.gz), else into the
    folder `out`, as several do; there results keep the source's stem, and what a pattern finds in folders below its own
    keeps those.

    Raises:
        UserError: nothing found, an unknown format, a format that `out` belies, an `out` that is no format's, two
            sources of one stem, or a result that would replace a source.
    """
    out = Path(out)
    if unknown := [form for form in formats if form not in FORMATS]:
        raise UserError(f"no format {unknown[0]!r}; known: {', '.join(FORMATS)}")
    try:
        files = _expand(sources)
    except OSError as error:
        raise UserError(f"cannot read {error.filename} ({error.strerror}): get the right to read it") from error
    if len(files) == 1 and not any(Path(source).is_dir() for source in sources) and not out.is_dir():
        made = _named(files, out, tuple(formats))
    else:
        _check_folder(files, out)
        made = Plan(_stems(files, out), tuple(dict.fromkeys(formats)), out)
    _check_sources(made)
    return made


def _named(files: dict[Path, Path], out: Path, formats: tuple[str, ...]) -> Plan:
    suffix = ".nii.gz" if out.name.lower().endswith(".nii.gz") else out.suffix.lower()
    if not suffix:
        return Plan(_stems(files, out), formats, out)
    if suffix not in _BY_SUFFIX:
        raise UserError(f"--out {out} is not a PNG file: expected {', '.join(_BY_SUFFIX)}, or a folder for several")
    if len(formats) > 1:
        raise UserError(f"--out {out} is one file for {len(formats)} formats: name a folder")
    form = formats[0] if formats else _BY_SUFFIX[suffix]
    if not FORMATS[form].endswith(suffix) and not (form == "nifti" and suffix == ".nii"):
        raise UserError(f"--out {out} does not end as {form} does: end it in {FORMATS[form]}")
    return Plan([Job(next(iter(files)), out.parent / stem_of(out), out)], (form,), None)


def _check_folder(files: dict[Path, Path], out: Path) -> None:
    """Refuse a name that is a file's for the folder that results go to."""
    suffix = out.suffix.lower()
    if not out.is_dir() and (suffix in _BY_SUFFIX or suffix in SUFFIXES or out.name.lower().endswith(".nii.gz")):
        raise UserError(f"--out {out} is one file, and {len(files)} may come: name a folder")


def _expand(sources: Sequence[Path | str]) -> dict[Path, Path]:
    """Return every file once, in the order asked for, with the folder its results go to below `out`."""
    found: dict[Path, Path] = {}
    for source in map(Path, sources):
        root = _root(source)
        found |= {file: file.parent.relative_to(root) for file in _files_of(source) if file not in found}
    return found


def _root(source: Path) -> Path:
    """Return the folder of a file, the folder itself, or the part of a pattern that is none."""
    if source.is_dir():
        return source
    if source.exists():
        return source.parent
    plain = list(takewhile(lambda part: not glob.has_magic(part), source.parent.parts))
    return Path(*plain)


def _files_of(source: Path) -> list[Path]:
    """Return a file, or those of a folder or a pattern by name."""
    if source.is_dir():
        if not (files := sorted(path for path in source.iterdir() if is_readable(path))):
            raise UserError(f"no images in {source}: expected pictures, DICOM or NIfTI by their usual suffixes")
        return files
    if source.exists():
        return [source]
    if glob.has_magic(str(source)):
        matches = sorted(Path(path) for path in glob.glob(str(source), recursive=True))
        if not (files := [path for path in matches if is_readable(path)]):
            raise UserError(f"the pattern {source} matches no image: check it, and quote it for the shell")
        return files
    raise UserError(f"there is no {source}: expected an image, a folder of images, or a pattern such as 'in/*.png'")


def _stems(files: dict[Path, Path], out: Path) -> list[Job]:
    by_stem: dict[Path, Path] = {}
    for file, below in files.items():
        stem = below / stem_of(file)
        if stem in by_stem:
            raise UserError(f"{by_stem[stem]} and {file} would write one mask {stem}.png: rename one of them")
        by_stem[stem] = file
    return [Job(file, out / stem) for stem, file in by_stem.items()]


def _check_sources(made: Plan) -> None:
    sources = {job.source.resolve() for job in made.jobs}
    for job in made.jobs:
        for form in made.formats or FORMATS:
            if job.target(form).resolve() in sources:
                raise UserError(f"the mask {job.target(form)} would replace an image: choose another --out")


def stem_of(path: Path) -> str:
    """Return a file's name without its suffix, `.nii.gz` being one; a name of numbers, as DICOM has, stays whole."""
    name = path.name
    if name.lower().endswith(".nii.gz"):
        return name[: -len(".nii.gz")]
    return path.stem if is_suffix(path.suffix) else name


def is_suffix(suffix: str) -> bool:
    """Is this a suffix, and not the end of a name such as `1.2.840.10008`?"""
    return bool(suffix) and not suffix[1:].isdigit()
