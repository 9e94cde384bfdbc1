"""The one door: `vlseg COMMAND`. Each command reads its options, asks one function of a room, and prints."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .deploy.errors import UserError

INTERRUPTED = 130  # what a shell calls a command that Ctrl-C ended
# typer exports no name for it: a command line that cannot be read
UsageError: Any = typer.BadParameter.__base__


class Door(TyperGroup):
    """Ends an interrupted command in one sentence, the command's own where it has one to give."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            print(f"vlseg: {stop or 'interrupted'}", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    name="vlseg",
    cls=Door,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
operators = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="The fused operators: measure, compile, check."
)
app.add_typer(operators, name="kernels")
folders = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Data folders: check one, convert to one.")
app.add_typer(folders, name="data")

Json = Annotated[bool, typer.Option("--json", help="Print JSON alone on stdout.")]
Data = Annotated[Path, typer.Option("--data", help="Folder with images/, masks/ and anns/{train,val,test}.json.")]
Prompt = Annotated[str, typer.Option(help="Prompt key of the annotations (p0, p1, ... or random).")]
Sentence = Annotated[str | None, typer.Option(help="One prompt for a plain folder of images/ and masks/.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads of the engine; default: all cores.")]
EngineName = Annotated[str, typer.Option(help="Which engine runs the bundle; auto picks by what is installed.")]


def main() -> None:
    """Run the command line; bad input ends in one sentence and exit code 2, Ctrl-C in one and 130."""
    try:
        raise SystemExit(app(standalone_mode=False))
    except UserError as error:
        print(f"vlseg: {error}", file=sys.stderr)
    except UsageError as error:
        print(_usage(error), file=sys.stderr)
    raise SystemExit(2)


@app.command()
def methods(as_json: Json = False) -> None:
    """List every method and size: paper, parameters, and what training computes once because it lies frozen below.

    Example: vlseg methods --json
    """
    from .train.models.methods import METHODS, backbone_of, count

    rows = [count(name, size) for name in METHODS for size in backbone_of(name).public]
    _print(rows, as_json, _table(rows, "name", "size", "trainable", "total", "image_size", "cached", "paper"))


@app.command()
def train(
    method: Annotated[
        str | None, typer.Argument(help="backbone/method, e.g. clipseg/dense-vl; see `vlseg methods`.")
    ] = None,
    data: Data = ...,  # type: ignore[assignment]
    out: Annotated[
        Path | None, typer.Option(help="Run folder to write; default: runs/, named by data and method.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="tiny (embedded), base or rd64 (published).")] = None,
    recipe: Annotated[str | None, typer.Option(help="A TOML file, or a name of `vlseg recipes`.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe field.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Folder with backbone weights, or random.")] = None,
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
    from .train.fit import fit
    from .train.recipe import load_recipe, recipe_file

    given = {"method": method, "size": size, "weights": weights, "devices": devices, "num_nodes": nodes}
    chosen = load_recipe(recipe, setting or (), **{key: value for key, value in given.items() if value is not None})
    out = out or Path("runs", f"{data.resolve().name}-{chosen.method.replace('/', '-')}-{chosen.size}")
    if search is None:
        info = fit(chosen, data, out, sentence=sentence, resume=resume, say=_say)
    else:
        from .train.search import read_space
        from .train.search import search as look

        space = read_space(recipe_file(recipe, method=chosen.method, size=chosen.size).search)
        info = look(chosen, space, search, data, out, sentence=sentence, say=_say)
    # of several processes only the first has something to tell
    if info:
        _print(info, as_json, f"{out}: {_scores(info['metrics'])}")


@app.command()
def recipes(as_json: Json = False) -> None:
    """List the published setups: method, size, paper, table, what a search varies, scores where they are known.

    Example: vlseg recipes
    """
    from .train.recipe_files import listing

    rows = listing()
    _print(rows, as_json, _table(rows, "name", "method", "size", "paper", "table", "column"))


@app.command()
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
    from .deploy.annotations import read_samples
    from .deploy.evaluate import evaluate as score

    samples = read_samples(data, split, sentence)
    if hd95 is None and not (hd95 := find_spec("scipy") is not None):
        _say('HD95 is left out, for scipy is not installed: pip install "vlseg[score]"')
    name, progress = data.resolve().name, _progress("image")
    with _segmenter(model, engine, threads) as segmenter:
        result = score(segmenter, samples, prompt, data=name, split=split, hd95=hd95, progress=progress)
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
    from .train.convert.convert import convert as change

    both = (clip, clip_sha256) if clip else None
    report = change(file, sha256, to, size=size, clip=both, tokenizer=tokenizer, overwrite=overwrite)
    _print(report, as_json, f"{to}: {report['kind']} {report['size']}, {report['tensors']} tensors")


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
    as_json: Json = False,
) -> None:
    """Write the mask of what the prompt names.

    Example: vlseg segment polyps.bundle image.jpg --prompt "small round polyp" --out mask.png
    """
    from .deploy.masks import segment_files

    with _segmenter(bundle, engine, threads) as segmenter:
        rows = []
        for path, share in segment_files(segmenter, image, prompt, out, threshold, overwrite):
            _say(f"{path}: {share:.2%} of the image")
            rows.append({"mask": str(path), "share": share})
    if as_json:
        _print(rows, as_json, "")


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


@folders.command("check")
def data_check(
    folder: Annotated[Path, typer.Argument(help="Folder with images/, masks/ and anns/, or without anns/.")],
    as_json: Json = False,
) -> None:
    """Report counts, sizes, bad masks, near-duplicates over splits, and prompts that give the answer away.

    Example: vlseg data check polyps
    """
    from .train.datasets.check import check

    report = check(folder, _progress("mask"))
    rows = [{"split": name, **figures} for name, figures in report["splits"].items()]
    counts = _table(rows, "split", "samples", "images", "empty_masks", "stray_masks")
    _print(report, as_json, "\n".join([counts, *(report["findings"] or ["nothing found"])]))


@folders.command("convert")
def data_convert(
    name: Annotated[str, typer.Argument(help="coco, yolo, index-mask, or a set of `vlseg data sets`.")],
    source: Annotated[Path, typer.Argument(help="Folder, archive, or folder of archives, as it was published.")],
    out: Annotated[Path, typer.Argument(help="Data folder to write.")],
    prompts: Annotated[Path | None, typer.Option(help="Folder of published prompt files; they say the splits.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a converted folder that stands there.")] = False,
    as_json: Json = False,
) -> None:
    """Write the layout that training reads from a published data set or a common format.

    Example: vlseg data convert kvasir kvasir-seg.zip data/kvasir --prompts medvlsm/data
    """
    from .train.datasets.convert import convert

    report = convert(name, source, out, prompts=prompts, overwrite=overwrite, say=_say)
    counts = ", ".join(f"{count} {split}" for split, count in report["samples"].items())
    _print(report, as_json, f"{out}: {report['images']} images, samples {counts}, prompts: {report['prompts']}")


@folders.command("sets")
def data_sets(as_json: Json = False) -> None:
    """List the published data sets that can be converted, where they are had, and how their files look.

    Example: vlseg data sets
    """
    from .train.datasets.published import listing

    rows = listing()
    _print(rows, as_json, _table(rows, "name", "title", "home", "image", "mask"))


@operators.command("bench")
def kernels_bench(
    out: Annotated[Path | None, typer.Option(help="Folder for kernels.csv; rows are appended.")] = None,
    tiny: Annotated[bool, typer.Option("--tiny", help="Tiny sizes in the interpreter: proves that it runs.")] = False,
    tune: Annotated[bool, typer.Option("--tune", help="First time tiles on this GPU and keep the best.")] = False,
    as_json: Json = False,
) -> None:
    """Time the operators against plain PyTorch on this machine.

    Example: vlseg kernels bench --out rows
    """
    from .kernels.bench import bench as measure
    from .kernels.bench import table

    with _one_sentence():
        rows = measure(out, tiny=tiny, tune=tune)
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
        facts = compile_all(arch, out, ptx, cubin=cubin, progress=_progress("kernel"))
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
        rows = check(arch or ARCHITECTURES, progress=_progress("kernel"))
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
        if engine not in ("auto", "torch"):
            raise UserError(f"{folder} is a run, which only torch can run, not {engine}: export it for other engines")
        from .train.engine import open_run

        return open_run(folder, threads)
    from .deploy.segmenter import Segmenter

    return Segmenter.open(folder, engine=engine, threads=threads)


def _usage(error: Any) -> str:
    """Return one sentence for a command line that cannot be read; the help, for one that says nothing."""
    text = error.format_message()
    if "\n" in text:
        return text
    known = [name for parameter in error.ctx.command.params for name in parameter.opts] if error.ctx else []
    if known and getattr(error, "option_name", None):
        text += f", known: {', '.join(known)}"
    return f"vlseg: {text.rstrip('.')}, see `{error.ctx.command_path if error.ctx else 'vlseg'} --help`"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _progress(what: str):
    """Return a callback (done, total) that keeps one line on a terminal, and writes at most ten into a pipe."""

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{what} {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif done * 10 // total > (done - 1) * 10 // total:
            _say(f"{what} {done}/{total}")

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
    if isinstance(value, list):
        return ", ".join(value) or "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}" if isinstance(value, float) else str(value)
