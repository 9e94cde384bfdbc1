"""Commands that train: methods, recipes, train, and the door for foreign checkpoints."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Json, Sentence
from .speak import say, show, table


def methods(as_json: Json = False) -> None:
    """List every method and size: paper, parameters, and what training computes once because it lies frozen below.

    Example: vlseg methods --json
    """
    from ..train.models.methods import METHODS, backbone_of, count

    rows = [count(name, size) for name in METHODS for size in backbone_of(name).public]
    show(rows, as_json, table(rows, "name", "size", "trainable", "total", "image_size", "cached", "paper"))


def train(
    method: Annotated[
        str | None, typer.Argument(help="backbone/method, e.g. clipseg/dense-vl; see `vlseg methods`.")
    ] = None,
    data: Annotated[
        list[Path], typer.Option(help="Folder with images/, masks/, anns/; several: one part, the sentence chooses.")
    ] = ...,  # type: ignore[assignment]
    out: Annotated[
        Path | None, typer.Option(help="Run folder to write; default: runs/, named by data and method.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="tiny (embedded), base or rd64 (published).")] = None,
    recipe: Annotated[str | None, typer.Option(help="A TOML file, or a name of `vlseg recipes`.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe field.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Folder with backbone weights, or random.")] = None,
    init: Annotated[Path | None, typer.Option(help="Start from what this run learned, of the same method.")] = None,
    sentence: Sentence = None,
    devices: Annotated[int | None, typer.Option(help="GPUs, or processes on a CPU, of each machine.")] = None,
    nodes: Annotated[int | None, typer.Option(help="Machines that train together.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from where an interrupted run stopped.")] = True,
    search: Annotated[int | None, typer.Option(help="Trials over the recipe's search space; the best is kept.")] = None,
    as_json: Json = False,
) -> None:
    """Train a method's small part on your images; an interrupted run goes on where it stopped.

    Example: vlseg train clipseg/dense-vl --data polyps --out runs/polyps --set max_epochs=20
    """
    from ..train.fit import fit
    from ..train.recipe import load_recipe, recipe_file
    from ..train.splits import name_of

    given = {"method": method, "size": size, "weights": weights, "devices": devices, "num_nodes": nodes}
    given |= {"start": str(init) if init else None}
    chosen = load_recipe(recipe, setting or (), **{key: value for key, value in given.items() if value is not None})
    out = out or Path("runs", f"{name_of(data)}-{chosen.method.replace('/', '-')}-{chosen.size}")
    if search is None:
        info = fit(chosen, data, out, sentence=sentence, resume=resume, say=say)
    else:
        from ..train.search import read_space
        from ..train.search import search as look

        space = read_space(recipe_file(recipe, method=chosen.method, size=chosen.size).search)
        info = look(chosen, space, search, data, out, sentence=sentence, say=say)
    # of several processes only the first has something to tell
    if info:
        show(info, as_json, f"{out}: {_scores(info['metrics'])}")


def recipes(as_json: Json = False) -> None:
    """List the published setups: method, size, paper, table, what a search varies, scores where they are known.

    Example: vlseg recipes
    """
    from ..train.recipe_files import listing

    rows = listing()
    show(rows, as_json, table(rows, "name", "method", "size", "paper", "table", "column"))


def evidence(
    grid: Annotated[Path, typer.Argument(help="TOML file: blocks of methods, data sets, seeds and prompts.")],
    data: Annotated[Path, typer.Option(help="Folder where the data folders of the grid are.")] = ...,  # type: ignore[assignment]
    out: Annotated[Path, typer.Option(help="Folder for the runs; a grid that was stopped goes on there.")] = ...,  # type: ignore[assignment]
    rows: Annotated[Path | None, typer.Option(help="CSV that rows are added to; default: OUT/evidence.csv.")] = None,
    as_json: Json = False,
) -> None:
    """Train and judge a grid of methods, data sets and seeds on equal budgets, a row each; stopped, it goes on.

    Example: vlseg evidence docs/grid.toml --data sets --out runs/evidence
    """
    from ..train.evidence import evidence as walk

    found = walk(grid, data, out, rows, say=say)
    counts = ", ".join(f"{len(names)} {how}" for how, names in found.items())
    show(found, as_json, f"{rows or out / 'evidence.csv'}: cells {counts}")
    if found["failed"]:
        raise typer.Exit(1)


def convert(
    file: Annotated[Path, typer.Argument(help="A checkpoint of CRIS, CLIP RN50 or ViT-B/16, CLIPSeg, SAM or MedSAM.")],
    sha256: Annotated[str, typer.Option(help="Its SHA-256, as the publisher states it.")] = ...,  # type: ignore[assignment]
    to: Annotated[Path, typer.Option(help="Folder to write, for --weights.")] = ...,  # type: ignore[assignment]
    size: Annotated[str, typer.Option(help="base, or rd64 for the plain CLIPSeg.")] = "base",
    clip: Annotated[Path | None, typer.Option(help="OpenAI's ViT-B-16.pt, for CLIPSeg's own release.")] = None,
    clip_sha256: Annotated[str, typer.Option(help="The SHA-256 of that file.")] = "",
    tokenizer: Annotated[Path | None, typer.Option(help="CLIP's tokenizer.json; default: from the hub.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a folder that this command wrote.")] = False,
    as_json: Json = False,
) -> None:
    """Turn a foreign checkpoint into safetensors: the only door for a pickle, its hash checked, nothing in it run.

    Example: vlseg convert RN50.pt --sha256 afeb0e10...b6762 --to weights/rn50 --tokenizer clip/tokenizer.json
    """
    from ..train.convert.convert import convert as change

    both = (clip, clip_sha256) if clip else None
    report = change(file, sha256, to, size=size, clip=both, tokenizer=tokenizer, overwrite=overwrite)
    show(report, as_json, f"{to}: {report['kind']} {report['size']}, {report['tensors']} tensors")


def _scores(metrics: dict[str, Any]) -> str:
    return ", ".join(f"{split} Dice {figures['dice']:.4f}" for split, figures in metrics.items())


COMMANDS = (methods, train, recipes, evidence, convert)
