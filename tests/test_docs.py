"""The documentation holds what the rows and the code say; every command on it is one that exists."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest
import typer

from vlseg.cli.door import app

ROOT = Path(__file__).parent.parent
EXTRA = re.compile(r"vlseg\[([a-z,]+)\]")


def loaded(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # a dataclass looks itself up there
    spec.loader.exec_module(module)
    return module


FENCES = loaded("fences")
PAGES = FENCES.pages()
BLOCKS = [fence for page in PAGES for fence in FENCES.fences(page)]
page_id = lambda page: str(page.relative_to(ROOT))  # noqa: E731


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_tables_are_made_from_rows(page):
    text = page.read_text()
    assert loaded("tables").render(text) == text, "run: python docs/tables.py"


def test_a_changed_figure_is_seen():
    module = loaded("tables")
    module.TABLES["base"] = lambda: "| made |"
    by_hand = "<!-- table base -->\n| by hand |\n<!-- end -->"
    assert module.render(by_hand) == by_hand.replace("by hand", "made")


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", FENCES.FENCE.sub("", page.read_text())):
        assert target.startswith("http") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_fences_say_what_they_are(page):
    """A block in no language is a drawing or a list; what could be run has one, and says what it needs."""
    assert page.read_text().count("\n```") == 2 * len(FENCES.fences(page))
    for fence in FENCES.fences(page):
        assert fence.language in FENCES.LANGUAGES, fence.language
        assert fence.facts.keys() <= {"needs", "on", "file", "append", "in"}
        assert fence.on in ("", "page", "little")
        assert fence.facts.get("needs", "hub") in FENCES.NEEDS
        if fence.language == "":
            assert not re.search(r"^(\$ )?(vlseg|python|pip|make|curl) ", fence.text, re.MULTILINE), fence.text


def words_of(line: str) -> list[str]:
    """The words of a command line, without what is set for it alone."""
    words = shlex.split(line)
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    return words


def lines(start: str):
    for fence in BLOCKS:
        for line in fence.lines:
            if words_of(line)[:1] == [start]:
                yield pytest.param(line, id=f"{fence.page.name}: {line[:60]}")


@pytest.mark.parametrize("line", list(lines("vlseg")))
def test_documented_commands_parse(line):
    """Every option of a documented command exists (its effect is tested where it lives)."""
    group = typer.main.get_command(app)
    name, *words = words_of(line)[1:]
    command = group.commands[name]  # type: ignore[attr-defined]
    if hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    command.make_context(name, list(words), resilient_parsing=False).close()


@pytest.mark.parametrize("line", list(lines("python")))
def test_documented_scripts_exist(line):
    _, first, *rest = words_of(line)
    if first == "-m":
        assert rest[0] == "pytest" or importlib.util.find_spec(rest[0])
    else:
        assert (ROOT / first).is_file()


def test_every_other_line_is_of_a_kind_that_is_known():
    """Targets of the Makefile, extras of the package, scripts of a device's folder, and the shell's own words."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for fence in BLOCKS:
        for line in fence.lines:
            first, *rest = words_of(line) or ["="]
            if first == "make":
                assert rest[0] in targets, line
            elif first.startswith("./"):
                assert (ROOT / "deploy" / "jetson" / "files" / first[2:]).is_file(), line
            else:
                known = ("vlseg", "python", "pip", "cp", "curl")
                assert first in known or re.match(r"\w+=", line) or fence.on == "page", line


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_extras_exist(page):
    tomllib = pytest.importorskip("tomllib")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for found in EXTRA.findall(page.read_text()):
        assert set(found.split(",")) <= set(extras), found


def test_most_is_run_and_the_rest_is_counted():
    assert "<!-- table commands -->" in (ROOT / "docs" / "verified.md").read_text()
    assert FENCES.counts()["run"] > sum(FENCES.counts().values()) / 2


def test_readme_is_a_runway():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_readme_names_every_room_and_file_at_the_top():
    text = (ROOT / "README.md").read_text()
    for room in ("kernels/", "deploy/", "train/", "export/", "demo/", "cli/", "quickstart.py", "docs/", "tests/"):
        assert room in text, room
