"""Rows of evidence: an adapted model beside a U-Net, the frozen model, Otsu's threshold and the mean mask.

All are judged by the runtime's own evaluation, with a threshold chosen on the same validation images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ..deploy.annotations import Sample, choose_prompt
from ..deploy.errors import UserError
from ..deploy.evaluate import evaluate
from ..deploy.rows import append_row
from ..deploy.segmenter import Segmenter
from .engine import open_run, segmenter_of
from .fit import Say, fit, read_splits, to_stderr
from .models.methods import METHODS, build_model
from .recipe import Recipe, load_recipe
from .rules import ImageOnly, Splits, fit_mean_mask, fit_otsu
from .threshold import choose_threshold
from .unet import fit_unet

CONTENDERS = ("clipseg/dense-vl", "clipseg/decoder", "clipseg/full", "unet", "clipseg/frozen", "otsu", "mean-mask")
FACTS = ("minutes", "epochs", "trained_parameters", "image_size", "backbone", "weights_hash")
Made = tuple[Segmenter | ImageOnly, dict[str, Any]]


@dataclass(frozen=True)
class Match:
    """One contender on one data folder: everything that its making and its row need."""

    name: str
    data: Path
    folder: Path
    recipe: Recipe
    splits: Splits
    say: Say


def compare(
    data: Path | str,
    csv_path: Path | str,
    runs: Path | str,
    *,
    contenders: Sequence[str] = CONTENDERS,
    prompts: Sequence[str] = ("p1",),
    minutes: float | None = 8.0,
    seed: int = 41,
    size: str = "tiny",
    overrides: Sequence[str] = (),
    say: Say = to_stderr,
) -> list[dict[str, Any]]:
    """Train and judge each contender on the test images and append one row for each of `prompts` to `csv_path`.

    A contender is a method, "unet", "otsu" or "mean-mask". `minutes` is the training time of each that trains, and
    `overrides` are as those of `--set`. Runs lie in the folder `runs`; a finished one is judged, not trained again.
    Raises UserError for whatever `fit` does, and for a prompt key that a test image lacks.
    """
    data, rows = Path(data), []
    if unknown := [name for name in contenders if name not in MAKERS]:
        raise UserError(f"no contender {unknown[0]!r}; known: {', '.join(MAKERS)}")
    for name in contenders:
        recipe = _recipe(name, size, minutes, seed, overrides)
        splits = read_splits(data, recipe)
        for sample in splits["test"]:
            [choose_prompt(sample, prompt) for prompt in prompts]
        folder = Path(runs) / f"{data.name}-{name.replace('/', '-')}-{size}-{seed}"
        say(f"{data.name}: {name}")
        rows += _judge(Match(name, data, folder, recipe, splits, say), prompts, csv_path)
    return rows


def evidence_rows(
    folders: Sequence[Path | str], csv_path: Path | str, runs: Path | str, **options: Any
) -> list[dict[str, Any]]:
    """Return the rows of `compare` for several data folders, with its options."""
    return [row for folder in folders for row in compare(folder, csv_path, runs, **options)]


def _recipe(name: str, size: str, minutes: float | None, seed: int, overrides: Sequence[str]) -> Recipe:
    method = name if "/" in name else "clipseg/dense-vl"
    return load_recipe(None, overrides, method=method, size=size).replace(seed=seed, max_minutes=minutes)


def _method(match: Match) -> Made:
    info = fit(match.recipe, match.data, match.folder, say=match.say)
    return open_run(match.folder), info


def _unet(match: Match) -> Made:
    return fit_unet(match.recipe, match.data, match.folder, match.say)


def _frozen(match: Match) -> Made:
    recipe = match.recipe
    model = build_model(recipe.method, recipe.size, weights=recipe.weights, image_size=recipe.image_size)
    facts = {"backbone": model.backbone, "weights_hash": model.weights_hash, "image_size": model.image_size}
    return segmenter_of(model, method=recipe.method, size=recipe.size), facts


MAKERS: dict[str, Callable[[Match], Made]] = {
    **dict.fromkeys(METHODS, _method),
    "clipseg/frozen": _frozen,
    "unet": _unet,
    "otsu": lambda match: (fit_otsu(match.splits), {}),
    "mean-mask": lambda match: (fit_mean_mask(match.splits), {}),
}


def _judge(match: Match, prompts: Sequence[str], csv_path: Path | str) -> list[dict[str, Any]]:
    segmenter, facts = MAKERS[match.name](match)
    threshold = facts.get("threshold")
    if threshold is None:
        threshold, _ = choose_threshold(segmenter.probability, match.splits["val"], match.recipe.held_out_prompt)
    rows = [_row(match, segmenter, threshold, facts, prompt) for prompt in prompts]
    for row in rows:
        append_row(csv_path, row)
    return rows


def _row(
    match: Match, segmenter: Segmenter | ImageOnly, threshold: float, facts: dict[str, Any], prompt: str
) -> dict[str, Any]:
    samples: list[Sample] = match.splits["test"]
    judged = cast(Segmenter, segmenter)  # `evaluate` asks for masks alone
    report = evaluate(judged, samples, prompt, data=match.data.name, split="test", threshold=threshold)
    recipe = match.recipe
    return {
        "data": match.data.name,
        "method": match.name,
        "size": recipe.size if "/" in match.name else "",
        "prompt": prompt,
        "train_prompt": recipe.prompt,
        "n": report["n"],
        **{metric: round(value, 5) for metric, value in report["mean"].items()},
        "hd95_one_empty": report["hd95_one_empty"],
        "threshold": threshold,
        "seed": recipe.seed,
        "minutes_allowed": recipe.max_minutes,
        "fidelity": recipe.fidelity,
        **{fact: facts.get(fact, "") for fact in FACTS},
    }
