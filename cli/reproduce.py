"""The command that runs a paper's table again."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..deploy.errors import UserError
from .options import Json
from .speak import say, show, table

NOT_KNOWN = "not known here"


def reproduce(
    name: Annotated[str | None, typer.Argument(help="A table, such as vlsm-adapter/table-1; see --list.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of data folders, named as `vlseg data sets` has it.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the runs; default: runs/, named by the table.")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Only this data set; repeat for more.")] = None,
    column: Annotated[list[str] | None, typer.Option(help="Only this column; repeat for more.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="This seed, not the published ones; repeat for more.")] = None,
    size: Annotated[str | None, typer.Option(help="Size of the backbone; default: the published one.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe field.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Folder with backbone weights; default: by name.")] = None,
    trials: Annotated[int | None, typer.Option(help="Trials of a search, where one was published; 0: none.")] = None,
    miniature: Annotated[
        bool, typer.Option("--miniature", help="Take data of other counts: to see that it runs, not for a score.")
    ] = False,
    known: Annotated[bool, typer.Option("--list", help="List the tables that are known.")] = False,
    as_json: Json = False,
) -> None:
    """Train a paper's table again, by its recipes and seeds, and print ours beside what it published.

    The data's counts are checked before anything is trained. Stopped, it goes on where it was.

    Example: vlseg reproduce vlsm-adapter/table-1 --data sets --dataset kvasir --column dense-vl
    """
    if known:
        _list(as_json)
        return
    if name is None or data is None:
        raise UserError(
            "name a table and --data DIR, such as vlsm-adapter/table-1 --data sets; --list names the tables"
        )
    from ..train.reproduce import Asked
    from ..train.reproduce import reproduce as again

    sets = (*(setting or ()), *([f"weights={weights}"] if weights else []))
    asked = Asked(tuple(dataset or ()), tuple(column or ()), tuple(seed or ()), size, sets, trials, miniature)
    found = again(name, data, out or Path("runs", name.replace("/", "-")), asked, say=say)
    if found["note"]:
        say(f"note: {found['note']}")
    rows = [_told(row) for row in found["rows"]]
    show(found, as_json, f"{found['source']}\n{table(rows, *rows[0])}")


def _list(as_json: bool) -> None:
    from ..train.published import listing

    rows = listing()
    told = [{**row, "scores known": f"{row['known']} of {row['figures']}"} for row in rows]
    show(rows, as_json, table(told, "name", "about", "data", "columns", "scores known"))


def _told(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as the table shows it."""
    seeds = " ".join(map(str, row["seeds"]))
    published = NOT_KNOWN if row["published"] is None else f"{row['published']:.2f}"
    difference = "-" if row["difference"] is None else f"{row['difference']:+.2f}"
    return {**row, "seeds": seeds, "published": published, "difference": difference}


COMMANDS = (reproduce,)
