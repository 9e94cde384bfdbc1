"""Commands for the fused operators: bench, compile, check."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Json
from .speak import one_sentence, progress, say, show, table

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The fused operators: measure, compile, check.")


@app.command("bench")
def kernels_bench(
    out: Annotated[Path | None, typer.Option(help="Folder for kernels.csv; rows are appended.")] = None,
    tiny: Annotated[bool, typer.Option("--tiny", help="Tiny sizes in the interpreter: proves that it runs.")] = False,
    tune: Annotated[bool, typer.Option("--tune", help="First time tiles on this GPU and keep the best.")] = False,
    as_json: Json = False,
) -> None:
    """Time the operators against plain PyTorch on this machine.

    Example: vlseg kernels bench --out rows
    """
    from ..kernels.bench import bench as measure
    from ..kernels.bench import table

    with one_sentence():
        rows = measure(out, tiny=tiny, tune=tune)
    show(rows, as_json, table(rows))


@app.command("compile")
def kernels_compile(
    arch: Annotated[int, typer.Option(help="Compute capability without the dot, e.g. 87 for Orin.")],
    out: Annotated[Path, typer.Option(help="Folder for the PTX files and their launch facts.")],
    ptx: Annotated[int | None, typer.Option(help="PTX version for the target's driver: 85, 90 or 92.")] = None,
    cubin: Annotated[bool, typer.Option(help="Write the machine code too.")] = False,
) -> None:
    """Compile the operators ahead of time to PTX, with a JSON of launch facts.

    Example: vlseg kernels compile --arch 87 --out ptx
    """
    from ..kernels.compile import compile_all

    with one_sentence():
        facts = compile_all(arch, out, ptx, cubin=cubin, progress=progress("kernel"))
    say(f"{out}: {len(facts)} kernels for sm_{arch}")


@app.command("check")
def kernels_check(
    arch: Annotated[list[int] | None, typer.Option(help="Compute capability; default: every supported one.")] = None,
    as_json: Json = False,
) -> None:
    """Report registers, spills and shared memory of every kernel; exit code 1 where one breaks the gate.

    Example: vlseg kernels check --arch 87 --json
    """
    from ..kernels.check import ARCHITECTURES, check

    with one_sentence():
        rows = check(arch or ARCHITECTURES, progress=progress("kernel"))
    show(rows, as_json, table(rows, *rows[0]))
    if not all(row["passed"] for row in rows):
        raise typer.Exit(1)
