"""From files to files: what `vlseg segment` does with pictures, DICOM and NIfTI."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .errors import UserError
from .files import atomic_write, make_folder, read_json, write_json
from .inputs.ahead import ahead
from .inputs.files import open_any
from .inputs.picture import Picture, Pictures
from .jobs import FORMATS, Job, Plan, plan
from .journal import Journal, digest
from .outputs.area import measure_area
from .outputs.formats import DEFAULTS, PER_PICTURE, Answers, check_format, file_bytes, merge_coco, picture_bytes
from .question import Done, Question
from .segmenter import Segmenter
from .tiles import Progress

COCO = "annotations.coco.json"
"""All the RLE of a folder in one file."""


class Opened(NamedTuple):
    """A file that was opened, its first picture decoded; or why it could not be."""

    job: Job
    pictures: Pictures | None = None
    first: Picture | None = None
    error: UserError | None = None


def segment_files(
    segmenter: Segmenter,
    sources: Sequence[Path | str],
    question: Question,
    out: Path | str,
    formats: Sequence[str] = (),
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Iterator[Done]:
    """Answer a question about files, folders and glob patterns; yield what became of each file.

    Formats are `png` (the mask, 0 and 255; of several prompts the class map), `overlay`, `rle` (COCO), `dicom-seg` and
    `nifti`; none is `nifti` for a volume and `png` for the rest. Among several files, one that cannot be read becomes a
    `Done` with an error, and the rest go on. What an interrupted call had finished in a folder is skipped when the call
    is made again, and comes first. `progress` is told how many pictures of a stack or volume are done, of how many.

    Raises:
        UserError: what `jobs.plan` raises; a result that exists without `overwrite`, or is of other settings; a place
            that cannot be written; and, where one file alone was asked for, whatever ails it.
    """
    made = plan(sources, out, formats)
    journal = Journal(made.folder, settings_of(segmenter, question, made), overwrite) if made.folder else None
    run = _Run(segmenter, question, made, journal, overwrite, progress)
    run.check_targets()
    yield from run.known()
    with closing(ahead(_open(run.waiting(), question))) as opened:
        for one in opened:
            yield run.answer(one)
    if made.folder and "rle" in made.formats:
        _write_coco(made)


def count_files(sources: Sequence[Path | str], out: Path | str, formats: Sequence[str] = ()) -> int:
    """Return how many files `segment_files` would answer about; raises as `jobs.plan`."""
    return len(plan(sources, out, formats).jobs)


def settings_of(segmenter: Segmenter, question: Question, made: Plan) -> dict[str, Any]:
    """Return what results depend on, as JSON; prompts as a hash, since a journal holds no words about a patient."""
    files = segmenter.manifest.files
    return {
        "model": digest(*(f"{name} {files[name]}" for name in sorted(files))),
        "prompt": digest(*question.prompts),
        "threshold": segmenter.manifest.threshold if question.threshold is None else question.threshold,
        "cleaning": [question.clean.largest, question.clean.holes],
        "tile size": question.tile,
        "window": list(question.window) if question.window else None,
        "format": list(made.formats),
    }


@dataclass(frozen=True)
class _Run:
    """One call of `segment_files`."""

    segmenter: Segmenter
    question: Question
    plan: Plan
    journal: Journal | None
    overwrite: bool
    progress: Progress | None

    def check_targets(self) -> None:
        """Refuse to replace what is not ours, before the first file is read."""
        for job in self.plan.jobs:
            if self._may_replace(job):
                continue
            for form in self.plan.formats or FORMATS:
                if job.target(form).exists():
                    raise UserError(f"{job.target(form)} exists already: choose another --out, or pass --overwrite")

    def known(self) -> Iterator[Done]:
        """Yield what was done before."""
        for job in self.plan.jobs:
            if self.journal and self.plan.folder and (entry := self.journal.done(job.source)):
                files = tuple(self.plan.folder / name for name in entry["files"])
                yield Done(job.source, files, entry["areas"], tuple(entry["notes"]), skipped=True)

    def waiting(self) -> list[Job]:
        """Return the jobs that are not done yet."""
        return [job for job in self.plan.jobs if not (self.journal and self.journal.done(job.source))]

    def answer(self, one: Opened) -> Done:
        """Answer about one file and write the results; what ails it is caught where it is one of several."""
        try:
            if one.pictures is None or one.first is None:
                raise one.error or UserError(f"{one.job.source} holds no picture")
            written, done = self._results(one.job, one.pictures, one.first)
        except UserError as error:
            if len(self.plan.jobs) == 1:
                raise
            return Done(one.job.source, error=str(error))
        self._write(one.job, written, done)
        return done

    def _may_replace(self, job: Job) -> bool:
        return self.overwrite or (self.journal is not None and self.journal.may_replace(job.source))

    def _write(self, job: Job, written: list[tuple[Path, bytes]], done: Done) -> None:
        if self.journal:
            self.journal.begin(job.source)
        for path, data in written:
            make_folder(path.parent)
            atomic_write(path, data)
        if self.journal:
            self.journal.note(job.source, done.files, done.areas, done.notes)

    def _results(self, job: Job, pictures: Pictures, first: Picture) -> tuple[list[tuple[Path, bytes]], Done]:
        """Return every file to write, with its bytes, and what to say about them."""
        forms = self.plan.formats or DEFAULTS[pictures.kind]
        for form in forms:
            check_format(form, pictures)
        if len(pictures) > 1 and job.exact and set(forms) & set(PER_PICTURE):
            raise UserError(f"{job.source} holds {len(pictures)} pictures, each a file of its own: name a folder")
        written: list[tuple[Path, bytes]] = []
        maps, areas, notes = [], [], {}
        for picture in (first, *map(pictures.read, range(1, len(pictures)))):
            labels = self.question.ask(self.segmenter, picture.image)
            index = picture.index if len(pictures) > 1 else None
            for form in (form for form in forms if form in PER_PICTURE):
                data = picture_bytes(form, picture, labels, self.question.prompts)
                written.append((job.target(form, index), data))
            maps.append(labels)
            areas += areas_of(picture, labels, len(self.question.prompts))
            notes |= dict.fromkeys(picture.notes)
            if self.progress and len(pictures) > 1:
                self.progress(len(maps), len(pictures))
        manifest = self.segmenter.manifest
        answers = Answers(pictures, maps, self.question.prompts, manifest.name, digest(*manifest.files.values()))
        for form in (form for form in forms if form not in PER_PICTURE):
            path = job.target(form)
            written.append((path, file_bytes(form, answers, path)))
        self._refuse_existing(job, [path for path, _ in written])
        return written, Done(job.source, tuple(path for path, _ in written), areas, tuple(notes))

    def _refuse_existing(self, job: Job, paths: list[Path]) -> None:
        """The files of a stack get their names only when it was read."""
        if not self._may_replace(job) and (there := [path for path in paths if path.exists()]):
            raise UserError(f"{there[0]} exists already: choose another --out, or pass --overwrite")


def areas_of(picture: Picture, labels: np.ndarray, classes: int) -> list[dict[str, Any]]:
    """Return `{index, class, pixels, share, mm2}` of each class, from 1, of a class map (H, W)."""
    measured = [measure_area(labels == number, picture.spacing) for number in range(1, classes + 1)]
    return [{"index": picture.index, "class": i, **asdict(area)} for i, area in enumerate(measured, 1)]


def _open(jobs: Iterable[Job], question: Question) -> Iterator[Opened]:
    """Open each file and decode its first picture; runs beside the model, in a thread of its own."""
    for job in jobs:
        try:
            pictures = open_any(job.source, question.window)
            yield Opened(job, pictures, pictures.read(0))
        except UserError as error:
            yield Opened(job, error=error)


def _write_coco(made: Plan) -> None:
    """Write the RLE of all files that have one into one COCO data set."""
    parts = [read_json(path) for job in made.jobs if (path := job.target("rle")).is_file()]
    if made.folder and parts:
        write_json(made.folder / COCO, merge_coco(parts))
