"""The reference is what the code says."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


def loaded():
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reference():
    return loaded()


@pytest.mark.parametrize("name", [*loaded().PAGES])
def test_a_page_is_what_the_code_says(reference, name):
    told = (reference.FOLDER / f"{name}.md").read_text()
    assert told == reference.page(name), "run: python docs/reference.py"


def test_there_is_no_page_that_nothing_makes(reference):
    assert {path.stem for path in reference.FOLDER.iterdir()} == set(reference.PAGES)


@pytest.mark.parametrize("name", [*loaded().PAGES])
def test_everything_is_explained(reference, name):
    """A field, an option or a parameter without a word on what it means is a hole."""
    for line in (reference.FOLDER / f"{name}.md").read_text().splitlines():
        if line.startswith("| `"):
            assert line.rstrip(" |").endswith((".", "!", "?", "...")) or name == "methods", line
            assert not line.endswith("|  |"), line


def test_texts_under_fields_are_found_in_bases_too(reference):
    @dataclass(frozen=True)
    class Below:
        a: int = 1
        """The first."""

    @dataclass(frozen=True)
    class Above(Below):
        b: bool | None = None
        """The second"""

    assert "| `a` | whole number | `1` | The first. |" in reference.options_of(Above)
    assert "| `b` | true or false or none | `none` | The second. |" in reference.options_of(Above)
