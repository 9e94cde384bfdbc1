"""The one door: `vlseg COMMAND`. Each command reads its options, asks one function of a room, and prints."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from .deploy.errors import UserError

app = typer.Typer(
    name="vlseg", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)
operators = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="The fused operators: measure, compile, check."
)
app.add_typer(operators, name="kernels")

Json = Annotated[bool, typer.Option("--json", help="Print JSON alone on stdout.")]
Data = Annotated[Path, typer.Option("--data", help="Folder with images/, masks/ and anns/{train,val,test}.json.")]
Prompt = Annotated[str, typer.Option(help="Prompt key of the annotations (p0, p1, ... or random).")]
Sentence = Annotated[str | None, typer.Option(help="One prompt for a plain folder of images/ and masks/.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads of the engine; default: all cores.")]
EngineName = Annotated[str, typer.Option(help="Which engine runs the bundle; auto picks by what is installed.")]


def main() -> None:
    """Run the command line; bad input ends in one sentence and exit code 2."""
    try:
        app()
    except UserError as error:
        print(f"vlseg: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("vlseg: interrupted", file=sys.stderr)
        raise SystemExit(130) from None


@app.command()
def methods(as_json: Json = False) -> None:
    """List every method and size with its paper and parameter counts.

    Example: vlseg methods --json
    """
    from .train.models.methods import METHODS, count
    from .train.models.sizes import PUBLIC_SIZES

    rows = [count(name, size) for size in PUBLIC_SIZES for name in METHODS]
    _print(rows, as_json, _table(rows, "name", "size", "trainable", "total", "image_size", "paper"))


@app.command()
def train(
    method: Annotated[
        str | None, typer.Argument(help="backbone/method, e.g. clipseg/dense-vl; see `vlseg methods`.")
    ] = None,
    data: Data = ...,  # type: ignore[assignment]
    out: Annotated[Path, typer.Option(help="Run folder to write.")] = ...,  # type: ignore[assignment]
    size: Annotated[str | None, typer.Option(help="tiny (embedded), base or rd64 (published).")] = None,
    recipe: Annotated[str | None, typer.Option(help="A TOML file or the name of a shipped recipe.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe field.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Folder with backbone weights, or random.")] = None,
    sentence: Sentence = None,
    resume: Annotated[bool, typer.Option(help="Go on from where an interrupted run stopped.")] = True,
    as_json: Json = False,
) -> None:
    """Train a method's small part on your images; an interrupted run goes on where it stopped.

    Example: vlseg train clipseg/dense-vl --data polyps --out runs/polyps --set max_epochs=20
    """
    from .train.fit import fit
    from .train.recipe import load_recipe

    given = {"method": method, "size": size, "weights": weights}
    chosen = load_recipe(recipe, setting or (), **{key: value for key, value in given.items() if value is not None})
    info = fit(chosen, data, out, sentence=sentence, resume=resume, say=_say)
    _print(info, as_json, f"{out}: {_scores(info['metrics'])}")


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    data: Data,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    prompt: Prompt = "p1",
    sentence: Sentence = None,
    engine: EngineName = "auto",
    threads: Threads = None,
    hd95: Annotated[bool, typer.Option(help="Compute HD95 too (needs the extra score).")] = True,
    as_json: Json = False,
) -> None:
    """Score a run or a bundle: Dice, IoU and HD95 per image and in the mean, at original resolution.

    Example: vlseg evaluate runs/polyps --data polyps --prompt p1
    """
    from .deploy.annotations import read_samples
    from .deploy.evaluate import evaluate as score

    samples = read_samples(data, split, sentence)
    with _segmenter(model, engine, threads) as segmenter:
        result = score(segmenter, samples, prompt, data=data.name, split=split, hd95=hd95, progress=_progress("image"))
    mean = result["mean"]
    far = (
        "" if mean["hd95"] is None else f", HD95 {mean['hd95']:.1f} px ({result['hd95_one_empty']} with one mask empty)"
    )
    _print(result, as_json, f"{result['n']} images: Dice {mean['dice']:.4f}, IoU {mean['iou']:.4f}{far}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    bundle: Annotated[Path, typer.Argument(help="Bundle folder to write.")],
    precision: Annotated[str, typer.Option(help="fp32 or fp16.")] = "fp32",
    fixed_prompt: Annotated[
        list[str] | None, typer.Option(help="Fold this prompt into constants; repeat for more.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Prove parity on these images instead of drawn ones.")] = None,
    folds: Annotated[str, typer.Option(help="measure, all or none: the adapters' down-projections.")] = "measure",
    overwrite: Annotated[bool, typer.Option(help="Replace a bundle that stands there.")] = False,
    as_json: Json = False,
) -> None:
    """Fold a run, export it to ONNX, prove parity and pack a bundle; nothing is written where parity fails.

    Example: vlseg export runs/polyps polyps.bundle --fixed-prompt polyp
    """
    from .export.bundle import export as pack

    report = pack(
        run,
        bundle,
        precision=precision,
        fixed_prompts=fixed_prompt or (),
        data=data,
        folds=folds,  # type: ignore[arg-type]  # checked where it is used
        overwrite=overwrite,
        progress=_say,
    )
    parity = report["parity"]
    _print(
        report,
        as_json,
        f"{bundle}: parity on {parity['images']} images, lowest Dice {parity['dice_min']:.5f}, "
        f"{parity['flipped_share']:.6%} of pixels flipped",
    )


@app.command()
def segment(
    bundle: Annotated[Path, typer.Argument(help="A bundle (or a run, where torch is installed).")],
    image: Annotated[Path, typer.Argument(help="An image, or a folder of them.")],
    prompt: Annotated[str, typer.Option(help="What to find, in words.")],
    out: Annotated[Path, typer.Option(help="Mask to write (PNG, 0 and 255), or a folder.")],
    threshold: Annotated[float | None, typer.Option(help="Probability from which a pixel counts, 0 to 1.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace masks that stand there.")] = False,
    engine: EngineName = "auto",
    threads: Threads = None,
) -> None:
    """Write the mask of what the prompt names.

    Example: vlseg segment polyps.bundle image.jpg --prompt "small round polyp" --out mask.png
    """
    from .deploy.masks import segment_files

    with _segmenter(bundle, engine, threads) as segmenter:
        for path, share in segment_files(segmenter, image, prompt, out, threshold, overwrite):
            _say(f"{path}: {share:.2%} of the image")


@app.command()
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
    from .deploy.bench import bench as measure
    from .deploy.rows import append_row

    report = measure(
        bundles,
        engine or ["auto"],
        repeats=repeats,
        batches=batch or [1],
        threads=threads,
        image=image,
        progress=_progress("round"),
    )
    if csv:
        for row in report["rows"]:
            append_row(csv, row)
    lines = _table(report["rows"], "bundle", "engine", "stage", "batch", "p50_ms", "p90_ms", "p99_ms", "images_per_s")
    _print(report, as_json, "\n".join([lines, *(_ratio(row) for row in report["ratios"])]))


@app.command()
def demo(
    bundles: Annotated[list[Path] | None, typer.Argument(help="Bundles to show; default: quickstart's.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 7860,
    engine: EngineName = "auto",
    threads: Threads = None,
) -> None:
    """Open a page to try a bundle: image, prompt, overlay, threshold, latency.

    Example: vlseg demo polyps.bundle --port 7860
    """
    from .demo.page import launch

    launch(bundles or [Path("quickstart/bundle")], host=host, port=port, engine=engine, threads=threads)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine can do, which known faults apply, and the command that mends each.

    Example: vlseg doctor --json
    """
    from .deploy.doctor import doctor as examine

    report = examine()
    facts = [f"{key}: {value if value else '-'}" for key, value in report.items() if key != "faults"]
    faults = [f"fault: {fault['what']}\n  mend: {fault['fix']}" for fault in report["faults"]]
    _print(report, as_json, "\n".join(facts + faults))


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("quickstart"),
    as_json: Json = False,
) -> None:
    """Walk the whole road offline on drawn images: adapt, compare, fold, export, prove parity, time, report.

    Example: vlseg quickstart --out quickstart
    """
    from .quickstart import quickstart as walk

    report = walk(out, say=_say)
    _print(report, as_json, f"{out / 'report.html'}: Dice {report['dice_before']:.3f} -> {report['dice_after']:.3f}")


@operators.command("bench")
def kernels_bench(
    out: Annotated[Path | None, typer.Option(help="Folder for kernels.csv; rows are appended.")] = None,
    as_json: Json = False,
) -> None:
    """Time the operators against plain PyTorch on this machine.

    Example: vlseg kernels bench --out rows
    """
    from .kernels.bench import bench as measure
    from .kernels.bench import table

    with _one_sentence():
        rows = measure(out)
    _print(rows, as_json, table(rows))


@operators.command("compile")
def kernels_compile(
    arch: Annotated[int, typer.Option(help="Compute capability without the dot, e.g. 87 for Orin.")],
    out: Annotated[Path, typer.Option(help="Folder for the PTX files and their launch facts.")],
    ptx: Annotated[int | None, typer.Option(help="PTX version for the target's driver: 85, 90 or 92.")] = None,
    cubin: Annotated[bool, typer.Option(help="Write the machine code too.")] = False,
) -> None:
    """Compile the operators ahead of time to PTX, with a JSON of launch facts.

    Example: vlseg kernels compile --arch 87 --out ptx
    """
    from .kernels.compile import compile_all

    with _one_sentence():
        facts = compile_all(arch, out, ptx, cubin=cubin)
    _say(f"{out}: {len(facts)} kernels for sm_{arch}")


@operators.command("check")
def kernels_check(
    arch: Annotated[list[int] | None, typer.Option(help="Compute capability; default: every supported one.")] = None,
    as_json: Json = False,
) -> None:
    """Report registers, spills and shared memory of every kernel; exit code 1 where one breaks the gate.

    Example: vlseg kernels check --arch 87 --json
    """
    from .kernels.check import ARCHITECTURES, check

    with _one_sentence():
        rows = check(arch or ARCHITECTURES)
    _print(rows, as_json, _table(rows, *rows[0]))
    if not all(row["passed"] for row in rows):
        raise typer.Exit(1)


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Turn a ValueError of `kernels`, which knows no other room, into bad input."""
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from error


def _segmenter(folder: Path, engine: str, threads: int | None):
    """Open a bundle, or a run where there is one: the same scoring serves both."""
    if (folder / "run.json").is_file():
        from .train.engine import open_run

        return open_run(folder)
    from .deploy.segmenter import Segmenter

    return Segmenter.open(folder, engine=engine, threads=threads)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _progress(what: str):
    """Return a callback (done, total) that keeps one line on a terminal and is silent in a pipe."""

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{what} {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    return show


def _print(value: Any, as_json: bool, text: str) -> None:
    print(json.dumps(value, indent=2, default=str) if as_json else text)


def _ratio(row: dict[str, Any]) -> str:
    return f"{row['a']} / {row['b']}, {row['stage']}: {row['median']:.3f} ({row['low']:.3f} to {row['high']:.3f})"


def _scores(metrics: dict[str, Any]) -> str:
    return ", ".join(f"{split} Dice {figures['dice']:.4f}" for split, figures in metrics.items())


def _table(rows: list[dict[str, Any]], *columns: str) -> str:
    cells = [list(columns)] + [[_cell(row[column]) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}" if isinstance(value, float) else str(value)
