"""`vlseg train --search N`: N runs of a recipe, each with values drawn from its space, and the best of them kept."""

import csv
import io
import json
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..deploy.errors import UserError
from ..deploy.files import atomic_write, write_json
from .fidelity import options_of
from .fit import Say, check_recipe, fit, to_stderr
from .loop import Diverged
from .models.methods import build_model
from .models.runs import RUN, read_run
from .place import Place, changed, session_of
from .recipe import Recipe
from .seeds import derive
from .splits import Folders, read_splits

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

STARTUP = 10
"""Trials drawn at random before the sampler learns from them, as TuneVLSeg has it."""
SPACE = "expected { low = 1e-5, high = 1e-2, log = true } or { choices = [32, 64] }"
Space = dict[str, "BaseDistribution"]


def read_space(table: Mapping[str, Any]) -> Space:
    """Return the space of a recipe's `[search]`: by field ("lr", "options.depth"), a range or a list of choices.

    A range of two whole numbers is one of whole numbers. UserError for an empty table or an entry of another form.
    """
    if not table:
        raise UserError("this recipe names nothing to search: give it a table [search] with lines such as lr = {...}")
    return {name: _dimension(name, entry) for name, entry in table.items()}


def search(
    recipe: Recipe,
    space: Space,
    trials: int,
    data: Folders,
    out: Path | str,
    *,
    sentence: str | None = None,
    say: Say = to_stderr,
) -> dict[str, Any]:
    """Run `trials` trials, or those that are left of them, and return the `run.json` of the best, which `out` then is.

    A trial is a run below `out/search/`; the sampler is Optuna's multivariate TPE, and what it makes small is the
    validation loss of the epoch that a run keeps. An interrupted search, and the trial in it, go on where they stopped:
    the study is the journal `out/search/study.log`. `out/search/trials.csv` has a row for each trial. A trial whose
    weights diverge counts as one, without a value.

    Raises:
        UserError: as `fit`; a value of the space that the method does not take; a folder that is not a search, or one
            that was told something else; several processes, which one study cannot steer; no trial came to its end.
    """
    out = Path(out)
    check_recipe(recipe)
    _check(recipe, space, trials, out)
    told = session_of(recipe, read_splits(data, recipe, sentence))
    told["space"] = {name: str(dimension) for name, dimension in space.items()}
    with _quiet():
        study = _study(out, json.loads(json.dumps(told)))
        _take_up(study)
        while (done := len(_finished(study))) < trials:
            study.sampler = _sampler(derive(recipe.seed, "trial", done))
            trial = study.ask(space)
            folder = out / "search" / trial.user_attrs.get("folder", f"trial-{trial.number:03d}")
            trial.set_user_attr("folder", folder.name)
            say(f"trial {done + 1} of {trials}: " + ", ".join(f"{k} = {v}" for k, v in trial.params.items()))
            _run(study, trial, _drawn(recipe, trial.params), folder, (data, sentence, say))
            atomic_write(out / "search" / "trials.csv", _rows(study))
        return _keep_best(study, out, say)


def _dimension(name: str, entry: Any) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    try:
        if entry.keys() == {"choices"}:
            return CategoricalDistribution(entry["choices"])
        low, high, log = entry["low"], entry["high"], bool(entry.get("log", False))
        if entry.keys() <= {"low", "high", "log"}:
            kind = IntDistribution if type(low) is int and type(high) is int else FloatDistribution
            return kind(low, high, log=log)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"[search] {name} = {entry!r} is no range ({error}): {SPACE}") from error
    raise UserError(f"[search] {name} = {entry!r} is no range: {SPACE}")


def _check(recipe: Recipe, space: Space, trials: int, out: Path) -> None:
    """Refuse what would end a search after its first trials: each end of each range is tried on a model of no size."""
    if trials < 1:
        raise UserError(f"--search {trials} is no number of trials: expected 1 or more")
    if recipe.world_size > 1:
        raise UserError("a search runs in one process: leave devices and num_nodes at 1")
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not (out / "search" / "study.log").is_file():
        raise UserError(f"{out} exists and is not a search: it is left as it is, choose another folder")
    for name, dimension in space.items():
        for value in _ends(dimension):
            drawn = _drawn(recipe, {name: value})
            check_recipe(drawn)
            if name.startswith("options."):
                _try(drawn, f"[search] {name} = {value}")


def _try(recipe: Recipe, what: str) -> None:
    try:
        with torch.device("meta"):
            build_model(recipe.method, recipe.size, weights="random", **options_of(recipe))
    except UserError as error:
        raise UserError(f"{what} does not fit {recipe.method} at size {recipe.size}: {error}") from error


def _ends(dimension: Any) -> tuple[Any, ...]:
    return dimension.choices if hasattr(dimension, "choices") else (dimension.low, dimension.high)


def _drawn(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return the recipe with the drawn values in their places; UserError for a field that no recipe has."""
    options = {name.partition(".")[2]: value for name, value in values.items() if name.startswith("options.")}
    fields = {name: value for name, value in values.items() if not name.startswith("options.")}
    if unknown := fields.keys() - recipe.to_dict().keys():
        raise UserError(f"[search] names {min(unknown)}, which is no field of a recipe")
    return recipe.replace(**fields, options={**recipe.options, **options})


def _study(out: Path, told: dict[str, Any]) -> "Study":
    """Open the journal; UserError where the search in it was told something else."""
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    (out / "search").mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(out / "search" / "study.log")))
    study = optuna.create_study(study_name="search", storage=storage, direction="minimize", load_if_exists=True)
    before = study.user_attrs.get("told", told)
    keys = [key for key in ("data", "space") if before[key] != told[key]] + changed(before["recipe"], told["recipe"])
    if keys:
        raise UserError(f"{out} holds a search with another {keys[0]}: use the same, or another folder")
    study.set_user_attr("told", told)
    return study


def _sampler(seed: int) -> Any:
    """Return a sampler whose draws depend on the seed and the trials before, and so not on interruptions."""
    from optuna.samplers import TPESampler

    return TPESampler(multivariate=True, n_startup_trials=STARTUP, seed=seed)


def _take_up(study: "Study") -> None:
    """Put trials that were interrupted back in line, each with its values and its folder."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params, user_attrs={"folder": trial.user_attrs["folder"]})


def _finished(study: "Study") -> list[Any]:
    from optuna.trial import TrialState

    trials = study.get_trials(states=(TrialState.COMPLETE, TrialState.FAIL))
    return [trial for trial in trials if trial.value is not None or "diverged" in trial.user_attrs]


def _run(study: "Study", trial: "Trial", recipe: Recipe, folder: Path, how: tuple[Folders, str | None, Say]) -> None:
    from optuna.trial import TrialState

    data, sentence, say = how
    try:
        info = fit(recipe, data, folder, sentence=sentence, say=say)
    except Diverged as error:
        say(f"this trial ends here: {error}")
        trial.set_user_attr("diverged", str(error))
        study.tell(trial, state=TrialState.FAIL)
        return
    with open(folder / "metrics.csv", newline="") as file:
        rows = {int(row["epoch"]): row for row in csv.DictReader(file)}
    trial.set_user_attr("val_dice", float(rows[info["best_epoch"]]["val_dice"]))
    study.tell(trial, float(rows[info["best_epoch"]]["val_loss"]))


def _rows(study: "Study") -> str:
    """Return one CSV row for each finished trial."""
    rows = [
        {"folder": trial.user_attrs["folder"], "val_loss": trial.value, "val_dice": trial.user_attrs.get("val_dice")}
        | trial.params
        for trial in _finished(study)
    ]
    file = io.StringIO()
    table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return file.getvalue()


def _keep_best(study: "Study", out: Path, say: Say) -> dict[str, Any]:
    """Copy the best trial's run into `out`, with what was found in its `run.json`."""
    finished = _finished(study)
    if all(trial.value is None for trial in finished):
        raise UserError(f"all {len(finished)} trials of {out} diverged: lower the upper end of lr in [search]")
    best = study.best_trial
    say(f"best of {len(finished)} trials: {best.user_attrs['folder']}, validation loss {best.value:.4f}")
    kept = out / "search" / "best.partial"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(out / "search" / best.user_attrs["folder"], kept)
    found = {"trials": len(finished), "best": best.user_attrs["folder"], "val_loss": best.value, "values": best.params}
    write_json(kept / RUN, read_run(kept) | {"search": found})
    Place(out).finish(kept)
    kept.rmdir()
    return read_run(out)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's log and its notes on experimental parts out of the way."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
