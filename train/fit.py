"""The whole of `vlseg train`: checks, training, threshold, test, and a run folder written whole or not at all."""

import dataclasses
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ..deploy.errors import UserError
from ..deploy.evaluate import evaluate
from ..deploy.files import atomic_write
from ..deploy.segmenter import Segmenter
from .cache import CachedModel, DiskStore, MemoryStore, Store
from .data import Look, Pictures
from .engine import segmenter_of
from .fidelity import options_of
from .models.adapters import implementation
from .models.card import CARD, run_card
from .models.clipseg import Clipseg
from .models.grafts import learning_parameters, trained_parameters
from .models.methods import backbone_of, build_model, cacheable, option_names
from .models.promptable import Promptable
from .models.runs import read_run, round_trained, save_run, start_from
from .picture import prediction_sheet
from .place import Place, changed, session_of
from .recipe import Recipe
from .reports import Reports
from .splits import Folders, Splits, by_set, name_of, read_splits, sets_of
from .spoken import say_sentences, sentences
from .threshold import choose_for_all
from .trainer import Trained, device_kind, is_first_process, precision_of, train_model

Say = Callable[[str], None]


def to_stderr(line: str) -> None:
    """Print a line of progress where it does not mix with figures."""
    print(line, file=sys.stderr, flush=True)


def _nothing(line: str) -> None:
    """Say nothing."""


def fit(
    recipe: Recipe,
    data: Folders,
    out: Path | str,
    *,
    sentence: str | None = None,
    resume: bool = True,
    test: bool = True,
    say: Say = to_stderr,
) -> dict[str, Any]:
    """Train a method on a data folder and return the `run.json` of the run folder `out`.

    Of several folders one part is trained, for which the sentence must choose; figures are then those of each folder
    (`sets`) and their mean.
    `sentence` is the prompt of a plain folder of images and masks; without `test` the test images are left alone. An
    unfinished run in `out` is resumed at its last whole epoch, or started anew without `resume`; of a finished one,
    this says so and returns its `run.json`; one that another process is at is refused. At the end `out` holds run.json,
    trained.safetensors, metrics.csv, predictions.png and MODEL_CARD.md. Of several processes only the first writes; the
    others return an empty dict. Several machines need `out` on storage they share.

    Raises UserError for whatever a user can get wrong, before anything is written where it can be known before, and
    KeyboardInterrupt, with a sentence that says how to go on, where Ctrl-C ends it.
    """
    place, sets = Place(Path(out)), sets_of(data)
    check_recipe(recipe)
    first = is_first_process()
    say = say if first else _nothing
    if first:
        place.check()
        if place.finished:
            return _finished(place, recipe, say)
    splits = read_splits(data, recipe, sentence)
    model = build_model(
        recipe.method,
        recipe.size,
        weights=recipe.weights,
        image_size=recipe.image_size,
        seed=recipe.seed,
        **options_of(recipe),
    )
    if not trained_parameters(model):
        raise UserError(f"{recipe.method} trains nothing: choose a method with trained parts, see `vlseg methods`")
    learned = _start(recipe, model, say)
    say_sentences(model, recipe.prompt, recipe.held_out_prompt, splits, say)
    train, val = read_pictures(splits, recipe, model.image_size, model.mean, model.std, say, sets)
    with _resumable(place, first), place.alone() if first else nullcontext():
        if first:
            if place.finished:  # by another process, while this one read
                return _finished(place, recipe, say)
            place.begin(session_of(recipe, splits), resume)
        reports = reports_of(recipe, model, splits, say, train.absent.sentences() if train.absent else ())
        forward = CachedModel(model, store_of(recipe, place), precision_of(recipe), say, reports)
        say(_announcement(model, recipe, splits, forward, place))
        trained = train_model(model, forward, model.tokenizer, train, val, recipe, place, say)
        if not trained.is_global_zero:
            return {}
        judged = splits if test else {name: samples for name, samples in splits.items() if name != "test"}
        return _finish(Job(recipe, name_of(data), judged, place, say, sets, learned), model, trained)


@contextmanager
def _resumable(place: Place, first: bool) -> Iterator[None]:
    """Let Ctrl-C say, once for all processes, what is kept and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        if not first:
            raise SystemExit(130) from None
        kept = "the last whole epoch is kept" if place.checkpoint.exists() else "no epoch was whole yet"
        raise KeyboardInterrupt(f"interrupted, {kept} in {place.out}: run the same command to go on") from None


def _start(recipe: Recipe, model: Promptable, say: Say) -> list[str]:
    """Put in what an earlier run learned, where the recipe names one; return the data that were learned before."""
    if recipe.start is None:
        return []
    info = start_from(Path(recipe.start), model, recipe.method)  # type: ignore[arg-type]
    learned = [*info.get("learned", []), info["data"]]
    say(f"starting from {recipe.start}, which learned {' then '.join(learned)}")
    return learned


def check_recipe(recipe: Recipe) -> None:
    """Refuse an unknown method, size or option before anything is read; UserError names the known ones."""
    backbone_of(recipe.method).size(recipe.size)
    known = option_names(recipe.method)
    for key in recipe.options:
        if key not in known:
            raise UserError(f"{recipe.method} has no option {key!r}; known: {', '.join(known) or 'none'}")


def read_pictures(
    splits: Splits,
    recipe: Recipe,
    image_size: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    say: Say,
    sets: tuple[str, ...] = (),
) -> tuple[Pictures, Pictures]:
    """Decode training and validation images; UserError for a bad file, or where no training mask holds an object."""
    look = Look(image_size, mean, std, recipe.held_out_prompt, sets=sets)
    changes = {"augment": recipe.augment, "augmentation": recipe.augmentation, "negatives": recipe.negatives}
    train_look = dataclasses.replace(look, prompt=recipe.prompt, seed=recipe.seed, **changes)
    train = Pictures(splits["train"], train_look, recipe.keep_bytes)
    val = Pictures(splits["val"], look, recipe.keep_bytes)
    if not train.read_all(say):
        raise UserError(
            f"all {len(train)} training masks are empty: expected objects as pixels of 255, check the masks folder"
        )
    val.read_all(say)
    return train, val


def store_of(recipe: Recipe, place: Place) -> Store | None:
    """Return the store of the frozen-prefix cache; several processes share its limit."""
    limit = recipe.cache_bytes // recipe.world_size
    if recipe.state_cache == "off":
        return None
    if recipe.state_cache == "memory":
        return MemoryStore(limit)
    return DiskStore(Path(recipe.cache_folder) if recipe.cache_folder else place.state / "cache", limit)


def reports_of(recipe: Recipe, model: Promptable, splits: Splits, say: Say, more: Sequence[str] = ()) -> Reports | None:
    """Return the file of sentences that are encoded already, with those of training and validation and `more`."""
    if recipe.reports is None:
        return None
    reports, keys = Reports(Path(recipe.reports), model), {"train": recipe.prompt, "val": recipe.held_out_prompt}
    said = (text for name, key in keys.items() for one in splits[name] for text in sentences(one, key))
    reports.prepare((*said, *more), say)
    return reports


@dataclass(frozen=True)
class Job:
    """What the end of a run needs to know of its beginning."""

    recipe: Recipe
    data: str
    splits: Splits
    place: Place
    say: Say
    sets: tuple[str, ...] = ()
    learned: Sequence[str] = ()


def _finish(job: Job, model: Clipseg, trained: Trained) -> dict[str, Any]:
    recipe, place = job.recipe, job.place
    if torch.cuda.is_available():
        model = model.cuda()
    if recipe.stored == "float16":
        round_trained(model)
    segmenter = segmenter_of(model, method=recipe.method, size=recipe.size)
    job.say("choosing the threshold on the validation images")
    own = by_set(job.splits["val"], job.sets)
    threshold, val_dice = choose_for_all(segmenter.probability, own, recipe.held_out_prompt)
    info = _info(job, model, trained, threshold)
    val = _together({name: {"dice": dice} for name, dice in val_dice.items()}, job.sets)
    info["metrics"] = {"val": val} | _test(job, segmenter, threshold)
    finished = place.state / "finished"
    finished.mkdir(exist_ok=True)
    save_run(finished, model, info)
    sheet = prediction_sheet(lambda i, t: segmenter.segment(i, t, threshold), job.splits["val"], recipe.held_out_prompt)
    atomic_write(finished / "predictions.png", sheet)
    atomic_write(finished / CARD, run_card(read_run(finished)))
    place.finish(finished)
    job.say(f"{place.out}: {_figures(info)}")
    return read_run(place.out)


def _info(job: Job, model: Clipseg, trained: Trained, threshold: float) -> dict[str, Any]:
    recipe = job.recipe
    return {
        "method": recipe.method,
        "size": recipe.size,
        "weights": recipe.weights,
        "options": options_of(recipe),
        "seed": recipe.seed,
        "threshold": threshold,
        "stored": recipe.stored,
        "prompt": recipe.held_out_prompt,
        "data": job.data,
        "images": {name: len(samples) for name, samples in job.splits.items()},
        "trained_parameters": sum(p.numel() for p in trained_parameters(model).values()),
        "cacheable": cacheable(model),
        "operators": implementation(model, device_kind()),
        **({"learned": list(job.learned)} if job.learned else {}),
        "epochs": trained.epochs,
        "best_epoch": trained.best_epoch,
        "minutes": round(trained.minutes, 2),
        "recipe": recipe.to_dict(),
        "versions": {name: version(name) for name in ("torch", "transformers", "lightning", "monai")},
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _test(job: Job, segmenter: Segmenter, threshold: float) -> dict[str, Any]:
    if "test" not in job.splits:
        return {}
    samples = job.splits["test"]
    with_distance = importlib.util.find_spec("scipy") is not None
    if not with_distance:
        job.say('HD95 of the test images is left out, for scipy is not installed: pip install "vlseg[score]"')
    job.say(f"evaluating {len(samples)} test images")
    key, found = job.recipe.held_out_prompt, {}
    for name, own in by_set(samples, job.sets).items():
        if own:  # a folder may have no test images
            report = evaluate(
                segmenter, own, key, data=name or job.data, split="test", threshold=threshold, hd95=with_distance
            )
            found[name] = report["mean"] | {"n": report["n"], "hd95_one_empty": report["hd95_one_empty"]}
    return {"test": _together(found, job.sets)}


def _together(found: dict[str, dict[str, Any]], sets: Sequence[str]) -> dict[str, Any]:
    """Return the figures of one folder, or of several: the means of the scores, the sums of the counts, and `sets`."""
    if not sets:
        return found[""]
    whole: dict[str, Any] = {}
    for key in next(iter(found.values())):
        values = [own[key] for own in found.values()]
        counted = key in ("n", "hd95_one_empty")
        whole[key] = None if None in values else sum(values) if counted else sum(values) / len(values)
    return whole | {"sets": found}


def _announcement(model: Clipseg, recipe: Recipe, splits: Splits, forward: CachedModel, place: Place) -> str:
    counts = ", ".join(f"{len(samples)} {name}" for name, samples in splits.items())
    trained = sum(p.numel() for p in trained_parameters(model).values())
    cached = " and ".join(name for name, on in forward.stages.items() if on) or "nothing"
    start = "resuming" if place.checkpoint.exists() else "training"
    device = device_kind()
    operators = implementation(model, device)
    idle = trained - sum(p.numel() for p in learning_parameters(model).values())
    return (
        f"{start} {recipe.method} ({recipe.size}): {trained:,} of {model.total:,} parameters"
        + (f" ({idle:,} of them get no gradient and are left out of the optimiser)" if idle else "")
        + f", images {counts}, "
        f"size {model.image_size}, {cached} computed once, on {device}"
        + (f" with {operators} operators" if operators else "")
    )


def _finished(place: Place, recipe: Recipe, say: Say) -> dict[str, Any]:
    info = read_run(place.out)
    keys = changed(json.loads(json.dumps(info.get("recipe", {}))), recipe.to_dict())
    if keys:
        raise UserError(f"{place.out} holds a finished run with another {keys[0]}: choose another folder")
    place.discard_state()
    say(f"{place.out} is finished already: {_figures(info)}")
    return info


def _figures(info: dict[str, Any]) -> str:
    parts = [f"{split} Dice {scores['dice']:.4f}" for split, scores in info["metrics"].items()]
    return f"{', '.join(parts)}, threshold {info['threshold']}, best of {info['epochs']} epochs at {info['best_epoch']}"
