"""The documentation holds what the rows and the code say."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import typer

from vlseg.cli.door import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def tables():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_made_from_rows(page):
    text = page.read_text()
    assert tables().render(text) == text, "run: python docs/tables.py"


def test_a_changed_figure_is_seen():
    module = tables()
    module.TABLES["base"] = lambda: "| made |"
    by_hand = "<!-- table base -->\n| by hand |\n<!-- end -->"
    assert module.render(by_hand) == by_hand.replace("by hand", "made")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target


def commands():
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("vlseg "):
                    yield pytest.param(line, id=f"{page.name}: {line[:50]}")


@pytest.mark.parametrize("line", list(commands()))
def test_documented_commands_parse(line):
    """Every option of a documented command exists (its effect is tested where it lives)."""
    group = typer.main.get_command(app)
    name, *words = shlex.split(line, comments=True)[1:]
    command = group.commands[name]  # type: ignore[attr-defined]
    if hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    command.make_context(name, list(words), resilient_parsing=False).close()


def test_readme_is_a_runway():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_readme_names_every_room_and_file_at_the_top():
    text = (ROOT / "README.md").read_text()
    for room in ("kernels/", "deploy/", "train/", "export/", "demo/", "cli/", "quickstart.py", "docs/", "tests/"):
        assert room in text, room
