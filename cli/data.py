"""Commands for data folders: check, convert, sets."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Json
from .speak import progress, say, show, table

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Data folders: check one, convert to one.")


@app.command("check")
def data_check(
    folder: Annotated[Path, typer.Argument(help="Folder with images/, masks/ and anns/, or without anns/.")],
    as_json: Json = False,
) -> None:
    """Report counts, sizes, bad masks, near-duplicates over splits, and prompts that give the answer away.

    Example: vlseg data check polyps
    """
    from ..train.datasets.check import check

    report = check(folder, progress("mask"))
    rows = [{"split": name, **figures} for name, figures in report["splits"].items()]
    counts = table(rows, "split", "samples", "images", "empty_masks", "stray_masks")
    show(report, as_json, "\n".join([counts, *(report["findings"] or ["nothing found"])]))


@app.command("convert")
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
    from ..train.datasets.convert import convert

    report = convert(name, source, out, prompts=prompts, overwrite=overwrite, say=say)
    counts = ", ".join(f"{count} {split}" for split, count in report["samples"].items())
    show(report, as_json, f"{out}: {report['images']} images, samples {counts}, prompts: {report['prompts']}")


@app.command("sets")
def data_sets(as_json: Json = False) -> None:
    """List the published data sets that can be converted, where they are had, and how their files look.

    Example: vlseg data sets
    """
    from ..train.datasets.published import listing

    rows = listing()
    show(rows, as_json, table(rows, "name", "title", "home", "image", "mask"))
