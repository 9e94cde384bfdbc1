"""How fast bundles are: engines alone and end to end apart, several bundles and engines side by side in one run.

The protocol is in docs/benchmark.md; `explain` says it for one row.
"""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from ..annotations import Sample
from ..engine import AUTO, choose_engine
from ..errors import UserError
from ..evaluate import evaluate
from ..facts import read_facts
from ..manifest import Manifest
from ..pixels import read_image
from ..segmenter import Segmenter
from . import device, trtexec
from .cold import cold
from .figures import SPLITS, AllSeries, Known, Row, overheads, ratios, row_of, skip
from .plan import Plan, Progress, Subject, find
from .power import energy, find_meter
from .profile import profile
from .proof import prove
from .rounds import Series, interleave
from .sustained import sustain
from .tasks import END_TO_END, ENGINE, Stage, Task, asked, draw_image, tasks_of


@dataclass(frozen=True)
class Extras:
    """What is measured beside latency.

    Attributes:
        cold: start each subject once in a process of its own.
        seconds: of sustained load from file to mask for each subject; 0 is none.
        profile: where the time goes, part by part.
        samples: labelled images for the accuracy of the same engine.
        prompt_key: which of their prompts.
    """

    cold: bool = True
    seconds: float = 0.0
    profile: bool = False
    samples: Sequence[Sample] = ()
    prompt_key: str = "p1"


def bench(
    bundles: Sequence[Path | str],
    engines: Sequence[str] = (AUTO,),
    plan: Plan | None = None,
    *,
    yardsticks: Sequence[Subject] = (),
    threads: int | None = None,
    image: Path | str | None = None,
    against: str | None = None,
    adapter: str | None = None,
    extras: Extras | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Time every bundle on every engine, and subjects that are open already; return what `measure` does.

    `image` None is a drawn picture of 512 x 384. `threads` None is the engine's choice. `against` names the subject
    that ratios are to, the first by default. `adapter` is what bundles with several answer with, by default
    their first; a bundle with one for good is timed as it is.

    Raises:
        UserError: nothing to bench, a count below 1, a bundle or an engine that fails its parity, or what opening a
            bundle raises.
    """
    plan, extras = plan or Plan(), extras or Extras()
    plan.check()
    if extras.seconds < 0:
        raise UserError(f"--duration {extras.seconds:g} is below 0, expected seconds of sustained load")
    if not (bundles and engines) and not yardsticks:
        raise UserError("nothing to bench: name at least one bundle and one engine")
    _check_adapter(bundles, adapter)
    with ExitStack() as undo:
        picture = Path(image) if image else draw_image(Path(undo.enter_context(_scratch())) / "drawn.png")
        subjects, known = list(yardsticks), [Known(accuracy=_accuracy(one, extras)) for one in yardsticks]
        for label, bundle in zip(names_of(bundles), map(Path, bundles), strict=True):
            entered = [undo.enter_context(one) for one in _open(bundle, engines, threads)]
            opened = [_subject(label, one, adapter) for one in entered]
            certificates = prove(bundle, entered, threads, opened[0].adapter)
            for subject, parity in zip(opened, certificates, strict=True):
                subjects.append(subject)
                known.append(_know(subject, bundle, parity, plan, extras, threads, picture))
        first = find(subjects, against)
        order = [first, *(i for i in range(len(subjects)) if i != first)]
        chosen = [subjects[i] for i in order], [known[i] for i in order]
        return measure(chosen[0], plan, picture, threads=threads, progress=progress, known=chosen[1], extras=extras)


def measure(
    subjects: Sequence[Subject],
    plan: Plan,
    picture: Path,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    known: Sequence[Known] | None = None,
    extras: Extras | None = None,
) -> dict[str, Any]:
    """Time subjects that are open already; return plain JSON values.

    Keys: `device`; `rows`, one for each subject, stage and batch; `ratios` of each later subject to the first;
    `overheads` of file to mask over the engine alone; `skipped` batches with the reason; `sustained`; `profile`;
    `trtexec`, the first subject's runs of its first batch. `threads` is only noted down.
    """
    plan.check()
    known, extras = known or [Known() for _ in subjects], extras or Extras(cold=False)
    state = device.state()
    made = [tasks_of(subject.segmenter, plan, picture) for subject in subjects]
    tasks = [own for own, _ in made]
    series = _time(tasks, plan, progress)
    rows = [row_of(subjects[i], known[i], stage, one) for (i, stage), one in series.items()]
    _add_splits(rows, subjects, plan, picture)
    _add_power(rows, list(series), tasks)
    return {
        "device": {**asdict(read_facts()), "threads": threads, "state": state},
        "rows": rows,
        "ratios": ratios(subjects, series),
        "overheads": overheads(subjects, series),
        "skipped": [
            skip(one, batch, why) for one, own in zip(subjects, made, strict=True) for batch, why in own[1].items()
        ],
        "sustained": [
            sustain(one, own[END_TO_END, 1], extras.seconds, progress)
            for one, own in zip(subjects, tasks, strict=True)
            if extras.seconds
        ],
        "profile": [
            row
            for one, own in zip(subjects, known, strict=True)
            if extras.profile
            for row in profile(one, own.folder, plan, picture, threads)
        ],
        "trtexec": _trtexec(subjects[0], series, plan, picture),
    }


def names_of(bundles: Sequence[Path | str]) -> list[str]:
    """Return each folder's name, or its path where two have one name."""
    names = [Path(bundle).resolve().name for bundle in bundles]
    return [str(bundle) if names.count(name) > 1 else name for bundle, name in zip(bundles, names, strict=True)]


def _scratch() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory()


def _open(bundle: Path, engines: Sequence[str], threads: int | None) -> list[Segmenter]:
    manifest = Manifest.load(bundle)
    names = dict.fromkeys(choose_engine(name, bundle, manifest) for name in engines)
    return [Segmenter.open(bundle, name, threads) for name in names]


def _subject(label: str, segmenter: Segmenter, adapter: str | None) -> Subject:
    """Return a subject that answers with an adapter, where its bundle has several."""
    several = list(segmenter.manifest.adapters)
    if several and adapter is not None:
        segmenter.use(adapter)
    return Subject(label, segmenter, (adapter or several[0]) if several else "")


def _check_adapter(bundles: Sequence[Path | str], adapter: str | None) -> None:
    """Refuse an adapter where every bundle has one for good."""
    if adapter is not None and not any(Manifest.load(bundle).adapters for bundle in bundles):
        raise UserError(f"no bundle here has several adapters: leave --adapter {adapter} out")


def _know(
    subject: Subject,
    folder: Path,
    parity: dict[str, Any],
    plan: Plan,
    extras: Extras,
    threads: int | None,
    picture: Path,
) -> Known:
    engine, found = subject.segmenter.engine, {}
    if extras.cold:
        prompt, batches = asked(subject.segmenter, plan), list(plan.batches)
        found = cold(folder, engine, threads, picture, prompt, batches, subject.adapter)
    return Known(folder, found, parity, _accuracy(subject, extras))


def _accuracy(subject: Subject, extras: Extras) -> dict[str, float]:
    if not extras.samples:
        return {}
    found = evaluate(subject.segmenter, extras.samples, extras.prompt_key, data="data", split="bench", hd95=False)
    return {name: found["mean"][name] for name in ("dice", "iou")}


def _time(tasks: Sequence[dict[Stage, Task]], plan: Plan, progress: Progress | None) -> dict[tuple[int, Stage], Series]:
    """Return the series of every subject (by place) and stage; all stages of one batch take part in the same rounds."""
    series: dict[tuple[int, Stage], Series] = {}
    batches = list(dict.fromkeys(batch for own in tasks for _, batch in own))
    total = len(batches) * plan.repeats
    for turn, batch in enumerate(batches):
        stages = dict.fromkeys(stage for own in tasks for stage in own if stage[1] == batch)
        keys = [(i, stage) for stage in stages for i, own in enumerate(tasks) if stage in own]
        step = partial(_tell, progress, turn * plan.repeats, total)
        series |= zip(keys, interleave([tasks[i][stage] for i, stage in keys], plan, step), strict=True)
    return series


def _tell(progress: Progress | None, before: int, total: int, done: int) -> None:
    """Tell the timed rounds of all batches that are done."""
    if progress:
        progress(before + done, total)


def _add_splits(rows: list[Row], subjects: Sequence[Subject], plan: Plan, picture: Path) -> None:
    """Fill in where the time of a run goes, on engines that tell."""
    for subject in subjects:
        for row in rows:
            if (row["bundle"], row["engine"], row["stage"]) == (subject.bundle, subject.segmenter.engine, ENGINE):
                row |= _splits(subject, plan, picture, row["batch"])


def _splits(subject: Subject, plan: Plan, picture: Path, batch: int) -> dict[str, float]:
    found = _split_times(subject, plan, picture, batch)
    return {f"{name}_ms": median(one[name] for one in found) for name in SPLITS if found and name in found[0]}


def _split_times(subject: Subject, plan: Plan, picture: Path, batch: int) -> list[dict[str, float]]:
    """Return the split of every run of the engine; none where it does not tell."""
    inputs = subject.segmenter.inputs_of_parts(read_image(picture), asked(subject.segmenter, plan), batch)
    return trtexec.split_times(subject, inputs, plan.repeats) if trtexec.tells(subject, inputs) else []


def _add_power(rows: list[Row], keys: list[tuple[int, Stage]], tasks: Sequence[dict[Stage, Task]]) -> None:
    """Fill in watts and millijoules of the engine alone and of file to mask, where the device tells."""
    if (meter := find_meter()) is None:
        return
    with meter:
        for row, (i, stage) in zip(rows, keys, strict=True):
            if stage[0] in (ENGINE, END_TO_END):
                row |= energy(_both(tasks[i][stage]), stage[1], meter)


def _both(task: Task):
    def run() -> None:
        task.prepare()
        task.call()

    return run


def _trtexec(subject: Subject, series: AllSeries, plan: Plan, picture: Path) -> list[dict[str, float]]:
    batches = [stage[1] for i, stage in series if i == 0 and stage[0] == ENGINE]
    if not batches:
        return []
    return _split_times(subject, plan, picture, batches[0]) or trtexec.unsplit(series[0, (ENGINE, batches[0])].times)
