"""The command that turns a run into a bundle."""

from pathlib import Path
from typing import Annotated

import typer

from ..deploy.errors import UserError
from .options import Json
from .speak import say, show


def export(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    bundle: Annotated[Path, typer.Argument(help="Bundle folder to write.")],
    precision: Annotated[str, typer.Option(help="fp32, fp16, int8, int8-fp16 (for GPUs) or fp8.")] = "fp32",
    calibrate: Annotated[
        Path | None, typer.Option(help="Pictures to measure the ranges of int8 or fp8 on; none is kept.")
    ] = None,
    fixed_prompt: Annotated[
        list[str] | None, typer.Option(help="Fold this prompt into constants; repeat for more.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Prove parity on these images instead of drawn ones.")] = None,
    folds: Annotated[str, typer.Option(help="measure, all or none: the adapters' down-projections.")] = "measure",
    target: Annotated[str, typer.Option(help="onnx; tensorrt: our kernels too; tensorrt-rtx: engines too.")] = "onnx",
    arch: Annotated[
        list[int] | None,
        typer.Option(help="Compute capability to build for, e.g. 86; repeat for more; default: all."),
    ] = None,
    opset: Annotated[int, typer.Option(help="Of ONNX: 20, or 18 for parsers that do not read it.")] = 20,
    adapter: Annotated[
        list[str] | None, typer.Option(help="NAME=RUN: one bundle for this run and RUN; repeat for more.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a bundle that stands there.")] = False,
    as_json: Json = False,
) -> None:
    """Fold a run, export it to ONNX, prove parity and pack a bundle; nothing is written where parity fails.

    Example: vlseg export runs/polyps polyps.bundle --fixed-prompt polyp
    """
    from ..export.bundle import export as pack

    if adapter:
        alone = {"--fixed-prompt": fixed_prompt, "--calibrate": calibrate, "--arch": arch, "--data": data}
        alone |= {"--target": target != "onnx", "--folds": folds == "all", "--opset": opset != 20}
        _several(run, adapter, bundle, precision, overwrite, as_json, [name for name, on in alone.items() if on])
        return
    report = pack(
        run,
        bundle,
        precision=precision,
        fixed_prompts=fixed_prompt or (),
        data=data,
        folds=folds,  # type: ignore[arg-type]  # checked where it is used
        target=target,
        architectures=arch or (),
        calibrate=calibrate,
        opset=opset,
        overwrite=overwrite,
        progress=say,
    )
    parity = report["parity"]
    show(
        report,
        as_json,
        f"{bundle}: parity on {parity['images']} images, lowest Dice {parity['dice_min']:.5f}, "
        f"{parity['flipped_share']:.6%} of pixels flipped",
    )


def _several(
    run: Path, adapters: list[str], bundle: Path, precision: str, overwrite: bool, as_json: bool, alone: list[str]
) -> None:
    """Export several runs as one bundle."""
    from ..export.many import export_many, parse_adapters

    if alone:
        raise UserError(f"{alone[0]} is for one run: leave it out, or export each run by itself without --adapter")
    runs = {run.resolve().name: run, **(others := parse_adapters(adapters))}
    if len(runs) == len(others):
        raise UserError(f"adapter {run.resolve().name} would be there twice: choose another name than the run's own")
    report = export_many(runs, bundle, precision=precision, overwrite=overwrite, progress=say)
    lines = [
        f"{name}: {one['bytes'] / 1e6:.2f} MB, threshold {one['threshold']}" for name, one in report["adapters"].items()
    ]
    show(report, as_json, "\n".join([f"{bundle}: {len(lines)} adapters", *lines]))


COMMANDS = (export,)
