"""The command that turns a run into a bundle."""

from pathlib import Path
from typing import Annotated

import typer

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
    overwrite: Annotated[bool, typer.Option(help="Replace a bundle that stands there.")] = False,
    as_json: Json = False,
) -> None:
    """Fold a run, export it to ONNX, prove parity and pack a bundle; nothing is written where parity fails.

    Example: vlseg export runs/polyps polyps.bundle --fixed-prompt polyp
    """
    from ..export.bundle import export as pack

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


COMMANDS = (export,)
