"""Commands that run models: segment, evaluate, bench, doctor."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from ..deploy.errors import UserError
from .options import Data, EngineName, Json, Prompt, Sentence, Threads
from .speak import progress, say, show, table


def segment(
    bundle: Annotated[Path, typer.Argument(help="A bundle (or a run, where torch is installed).")],
    image: Annotated[Path, typer.Argument(help="An image, or a folder of them.")],
    prompt: Annotated[str, typer.Option(help="What to find, in words.")],
    out: Annotated[Path, typer.Option(help="Mask to write (PNG, 0 and 255), or a folder.")],
    threshold: Annotated[float | None, typer.Option(help="Probability from which a pixel counts, 0 to 1.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace masks that stand there.")] = False,
    engine: EngineName = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Write the mask of what the prompt names.

    Example: vlseg segment polyps.bundle image.jpg --prompt "small round polyp" --out mask.png
    """
    from ..deploy.masks import segment_files

    with open_model(bundle, engine, threads) as segmenter:
        rows = []
        for path, share in segment_files(segmenter, image, prompt, out, threshold, overwrite):
            say(f"{path}: {share:.2%} of the image")
            rows.append({"mask": str(path), "share": share})
    if as_json:
        show(rows, as_json, "")


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


def bench(
    bundles: Annotated[list[Path], typer.Argument(help="Bundles to time, interleaved.")],
    engine: Annotated[list[str] | None, typer.Option(help="Engine, or auto; repeat for more.")] = None,
    repeats: Annotated[int, typer.Option(help="Timed runs a row.")] = 50,
    batch: Annotated[list[int] | None, typer.Option(help="Batch size; repeat for more.")] = None,
    image: Annotated[Path | None, typer.Option(help="Image to time on; default: a drawn one.")] = None,
    threads: Threads = None,
    csv: Annotated[Path | None, typer.Option(help="Append the rows, with their circumstances, to this CSV.")] = None,
    as_json: Json = False,
) -> None:
    """Time bundles: engine alone and file to mask apart, percentiles, images per second, memory.

    Example: vlseg bench adapted.bundle frozen.bundle --repeats 100
    """
    from ..deploy.bench import bench as measure
    from ..deploy.rows import append_row

    report = measure(
        bundles,
        engine or ["auto"],
        repeats=repeats,
        batches=batch or [1],
        threads=threads,
        image=image,
        progress=progress("round"),
    )
    if csv:
        for row in report["rows"]:
            append_row(csv, row)
    lines = table(report["rows"], "bundle", "engine", "stage", "batch", "p50_ms", "p90_ms", "p99_ms", "images_per_s")
    show(report, as_json, "\n".join([lines, *(_ratio(row) for row in report["ratios"])]))


def doctor(as_json: Json = False) -> None:
    """Say what this machine can do, which known faults apply, and the command that mends each.

    Example: vlseg doctor --json
    """
    from ..deploy.doctor import doctor as examine

    report = examine()
    facts = [f"{key}: {value if value else '-'}" for key, value in report.items() if key != "faults"]
    faults = [f"fault: {fault['what']}\n  mend: {fault['fix']}" for fault in report["faults"]]
    show(report, as_json, "\n".join(facts + faults))


def open_model(folder: Path, engine: str, threads: int | None):
    """Open a bundle, or a run where there is one: the same scoring serves both."""
    if (folder / "run.json").is_file():
        if engine not in ("auto", "torch"):
            raise UserError(f"{folder} is a run, which only torch can run, not {engine}: export it for other engines")
        from ..train.engine import open_run

        return open_run(folder, threads)
    from ..deploy.segmenter import Segmenter

    return Segmenter.open(folder, engine=engine, threads=threads)


def _ratio(row: dict[str, Any]) -> str:
    return f"{row['a']} / {row['b']}, {row['stage']}: {row['median']:.3f} ({row['low']:.3f} to {row['high']:.3f})"


COMMANDS = (segment, evaluate, bench, doctor)
