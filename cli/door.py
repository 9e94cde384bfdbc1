"""The one door: `vlseg COMMAND`. Each command reads its options, asks one function of a room, and prints."""

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from ..deploy.errors import UserError
from . import bench, build, data, demo, deploy, export, kernels, reproduce, road, segment, train

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
            print(f"vlseg: {str(stop) or 'interrupted'}", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    name="vlseg",
    cls=Door,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for room in (train, reproduce, segment, deploy, build, bench, export, demo, road):
    for command in room.COMMANDS:
        app.command()(command)
app.add_typer(kernels.app, name="kernels")
app.add_typer(data.app, name="data")


def main() -> None:
    """Run the command line; bad input ends in one sentence and exit code 2, Ctrl-C in one and 130."""
    try:
        raise SystemExit(app(standalone_mode=False))
    except UserError as error:
        print(f"vlseg: {error}", file=sys.stderr)
    except PermissionError as error:
        print(f"vlseg: cannot open {error.filename} ({error.strerror}): get the right to it", file=sys.stderr)
    except UsageError as error:
        print(usage(error), file=sys.stderr)
    raise SystemExit(2)


def usage(error: Any) -> str:
    """Return one sentence for a command line that cannot be read; the help, for one that says nothing."""
    text = error.format_message()
    if "\n" in text:
        return text
    known = [name for parameter in error.ctx.command.params for name in parameter.opts] if error.ctx else []
    if known and getattr(error, "option_name", None):
        text += f", known: {', '.join(known)}"
    return f"vlseg: {text.rstrip('.')}, see `{error.ctx.command_path if error.ctx else 'vlseg'} --help`"
