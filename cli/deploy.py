"""Commands that take models into the field: evaluate, deploy."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from ..deploy.errors import UserError
from .options import Adapter, Data, EngineName, Json, Prompt, Sentence, Threads
from .speak import one_sentence, progress, say, show


def evaluate(
    model: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    data: Data,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    prompt: Prompt = "p1",
    sentence: Sentence = None,
    adapter: Adapter = None,
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
    with open_model(model, engine, threads, adapter) as segmenter:
        result = score(segmenter, samples, prompt, data=name, split=split, hd95=hd95, progress=tell)
    result |= {} if adapter is None else {"adapter": adapter}
    mean = result["mean"]
    far = (
        "" if mean["hd95"] is None else f", HD95 {mean['hd95']:.1f} px ({result['hd95_one_empty']} with one mask empty)"
    )
    show(result, as_json, f"{result['n']} images: Dice {mean['dice']:.4f}, IoU {mean['iou']:.4f}{far}")


def deploy(
    bundle: Annotated[Path, typer.Argument(help="A bundle.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write.")],
    to: Annotated[str, typer.Option(help="The device: jetson.")] = "jetson",
    kernels: Annotated[
        bool, typer.Option("--kernels/--no-kernels", help="Compile our kernels for Orin and Thor into it.")
    ] = True,
    overwrite: Annotated[bool, typer.Option(help="Replace a folder that this command wrote.")] = False,
    as_json: Json = False,
) -> None:
    """Write a folder that runs on a device without PyTorch: model, wheel, pinned packages, scripts, a page.

    Example: vlseg deploy polyps.bundle --to jetson polyps.jetson
    """
    from ..deploy.jetson.folder import PLACES, make_folder

    if to not in PLACES:
        raise UserError(f"no device {to!r}; known: {', '.join(PLACES)}")
    if kernels and (find_spec("triton") is None or find_spec("onnx") is None):
        raise UserError('our kernels are compiled with triton: pip install "vlseg[export]", or pass --no-kernels')
    report = make_folder(bundle, folder, kernels=_add_kernels if kernels else None, overwrite=overwrite, progress=say)
    show(report, as_json, f"{folder}: {len(report['files'])} files; copy it to the device and run ./install.sh there")


def _add_kernels(bundle: Path, files: list[str], architectures: tuple[int, ...]) -> None:
    from ..export.ptx import pack_ptx

    with one_sentence():
        pack_ptx(bundle, files, architectures, say)


def open_model(folder: Path, engine: str, threads: int | None, adapter: str | None = None):
    """Open a bundle, or a run where there is one: the same scoring serves both. What `auto` chose is said."""
    if (folder / "run.json").is_file():
        if adapter is not None:
            raise UserError(f"{folder} is a run, which is its own adapter: leave --adapter {adapter} out")
        if engine not in ("auto", "torch"):
            raise UserError(f"{folder} is a run, which only torch can run, not {engine}: export it for other engines")
        from ..train.engine import open_run

        return open_run(folder, threads)
    from ..deploy.segmenter import Segmenter

    segmenter = Segmenter.open(folder, engine=engine, threads=threads)
    if adapter is not None:
        try:
            segmenter.use(adapter)
        except UserError:
            segmenter.close()
            raise
    if engine == "auto":
        say(f"engine: {segmenter.engine}, the first that this machine and this bundle have (`vlseg doctor` tells all)")
    return segmenter


COMMANDS = (evaluate, deploy)
