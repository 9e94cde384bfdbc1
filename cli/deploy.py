"""Commands that run models: evaluate."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from ..deploy.errors import UserError
from .options import Data, EngineName, Json, Prompt, Sentence, Threads
from .speak import progress, say, show


def evaluate(
    model: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    data: Data,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    prompt: Prompt = "p1",
    sentence: Sentence = None,
    engine: EngineName = "auto",
    threads: Threads = None,
    hd95: Annotated[
        bool | None, typer.Option("--hd95/--no-hd95", help="HD95 too; default: where scipy is installed.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score a run or a bundle: Dice, IoU and HD95 per image and in the mean, at original resolution.

    Example: vlseg evaluate runs/polyps --data polyps --prompt p1
    """
    from ..deploy.annotations import read_samples
    from ..deploy.evaluate import evaluate as score

    samples = read_samples(data, split, sentence)
    if hd95 is None and not (hd95 := find_spec("scipy") is not None):
        say('HD95 is left out, for scipy is not installed: pip install "vlseg[score]"')
    name, tell = data.resolve().name, progress("image")
    with open_model(model, engine, threads) as segmenter:
        result = score(segmenter, samples, prompt, data=name, split=split, hd95=hd95, progress=tell)
    mean = result["mean"]
    far = (
        "" if mean["hd95"] is None else f", HD95 {mean['hd95']:.1f} px ({result['hd95_one_empty']} with one mask empty)"
    )
    show(result, as_json, f"{result['n']} images: Dice {mean['dice']:.4f}, IoU {mean['iou']:.4f}{far}")


def open_model(folder: Path, engine: str, threads: int | None):
    """Open a bundle, or a run where there is one: the same scoring serves both. What `auto` chose is said."""
    if (folder / "run.json").is_file():
        if engine not in ("auto", "torch"):
            raise UserError(f"{folder} is a run, which only torch can run, not {engine}: export it for other engines")
        from ..train.engine import open_run

        return open_run(folder, threads)
    from ..deploy.segmenter import Segmenter

    segmenter = Segmenter.open(folder, engine=engine, threads=threads)
    if engine == "auto":
        say(f"engine: {segmenter.engine}, the first that this machine and this bundle have (`vlseg doctor` tells all)")
    return segmenter


COMMANDS = (evaluate,)
